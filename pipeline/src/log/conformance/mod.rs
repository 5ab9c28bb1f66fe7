//! The suite that holds every implementation of the log to one behaviour.
//!
//! Lives here: one function per property, over [`Harness`] (what a test may ask of the world in
//! which the log stands: time, a crash, compaction, retention) and over [`super::Log`] itself. May
//! not live here: anything that knows an implementation.
//!
//! [`log_conformance!`](crate::log_conformance) makes one `#[test]` of each property that *every*
//! log has. [`log_weakness!`](crate::log_weakness) does so for the lines of "How weak Kafka is":
//! Kafka shows them, the simulator must show them, an embedded log may be stronger.
//!
//! The suite is a plain module of the library, not a feature and not `cfg(test)`: so one build
//! serves unit tests, the tests in `pipeline/tests/` and the program; what nobody calls is not
//! linked. The functions panic when the property does not hold.

pub mod compaction;
pub mod groups;
pub mod kit;
pub mod offsets;
pub mod reading;
pub mod topics;
pub mod transactions;
pub mod weak;

use std::{fmt, time::Duration};

use semel_schemas::{
    record::OutRecord,
    topic::{NextOffset, Partition, TopicName},
};

use super::{Log, ProduceError, TxnError};

/// The world of a log under test. One harness serves one test; topics and groups of other tests
/// may stand in the same log, so names come from [`Harness::name`].
pub trait Harness: fmt::Debug {
    /// The log.
    fn log(&self) -> &dyn Log;

    /// The process dies without a farewell and starts again: everything in memory is gone, the
    /// log is opened anew. The test has dropped its members and readers before.
    fn restart(&mut self);

    /// Time that has passed since some fixed moment: the simulator's clock, or a real one.
    fn now(&self) -> Duration;

    /// Lets time pass: the simulator's clock is moved, real logs sleep.
    fn pass(&self, time: Duration);

    /// A name for a topic, group or instance that nobody uses, with `stem` in it; legal as a
    /// topic name.
    fn name(&self, stem: &str) -> String;

    /// The session timeout to join with.
    fn session(&self) -> Duration;

    /// The transaction timeout to join with.
    fn transaction(&self) -> Duration;

    /// How long a member that is alive must not poll before the group takes its partitions away,
    /// at the most. Kafka: `max.poll.interval.ms` and a little.
    fn silence(&self) -> Duration {
        self.session()
    }

    /// From now on groups give up members that do not poll after a short [`Harness::silence`]; for
    /// tests of zombies. In all others a member may be slow for as long as the machine is.
    fn be_impatient(&mut self) {}

    /// Bytes ([`OutRecord::size`]) that one record may certainly not have.
    fn too_large(&self) -> usize;

    /// Compacts the partition: when this returns, only the last of those *decided* (committed)
    /// records of each key that were written before the call is left, and tombstones that are
    /// older than their time are gone. Records whose keys start with `~` are the harness's own
    /// filling (Kafka never compacts its newest segment), and are passed over by the suite.
    fn compact(&self, topic: &TopicName, partition: Partition);

    /// Retention strikes: records below `before` are deleted.
    fn expire(&self, topic: &TopicName, partition: Partition, before: NextOffset);

    /// Deletes the topic; returns when it is gone.
    fn delete_topic(&self, topic: &TopicName);
}

/// A harness of a log that is as weak as Kafka.
pub trait Weak: Harness {
    /// A bare transactional producer under this id, initialised: what a program could do that
    /// goes around [`super::Member`].
    fn raw(&self, transactional_id: &str) -> Box<dyn RawProducer>;
}

/// A transactional producer that no group fences. A transaction begins with the first call.
pub trait RawProducer {
    /// Writes a record; when this returns the log holds it.
    ///
    /// # Errors
    /// [`ProduceError`].
    fn produce(&mut self, record: OutRecord) -> Result<(), ProduceError>;

    /// Sends offsets with the metadata of a consumer that was assigned by hand: generation −1,
    /// no member id.
    ///
    /// # Errors
    /// [`TxnError`].
    fn send_offsets(
        &mut self,
        group: &str,
        topic: &TopicName,
        offsets: &[(Partition, NextOffset)],
    ) -> Result<(), TxnError>;

    /// Commits, with or without offsets.
    ///
    /// # Errors
    /// [`TxnError`].
    fn commit(&mut self) -> Result<(), TxnError>;

    /// Aborts.
    ///
    /// # Errors
    /// [`TxnError`].
    fn abort(&mut self) -> Result<(), TxnError>;
}

/// Makes a `#[test]` of each named property.
#[doc(hidden)]
#[macro_export]
macro_rules! log_properties {
    ($harness:expr; $($file:ident: $($name:ident),+;)+) => {
        $($(
            #[test]
            fn $name() {
                let mut harness = $harness;
                $crate::log::conformance::$file::$name(&mut harness);
            }
        )+)+
        /// The properties above, to be compared with those that the suite has.
        #[allow(dead_code, reason = "one implementation compares, not all")]
        const PROPERTIES: &[&str] = &[$($(stringify!($name)),+),+];
    };
}

/// One test per property that every log has. The expression makes a
/// [`Harness`](crate::log::conformance::Harness).
#[macro_export]
macro_rules! log_conformance {
    ($harness:expr) => {
        $crate::log_properties! { $harness;
            topics:
                a_topic_is_created_once,
                a_topic_with_other_settings_is_refused,
                a_recreated_topic_has_another_id,
                what_does_not_exist_is_said_to_be_missing,
                keys_are_partitioned_by_murmur2;
            reading:
                records_of_a_partition_are_read_in_order,
                headers_null_keys_and_null_values_come_back,
                tombstones_are_records,
                append_says_where_the_records_are,
                a_reader_stops_at_most_at_what_was_asked,
                positions_reach_the_end_over_gaps,
                an_expired_offset_is_out_of_range_for_a_reader,
                a_seek_forgets_the_other_partition;
            compaction:
                compaction_keeps_the_last_value_of_each_key,
                compaction_honours_tombstones,
                compaction_lets_no_aborted_value_win;
            transactions:
                a_commit_is_atomic_over_topics_and_offsets,
                an_abort_leaves_nothing_visible,
                nothing_is_open_before_the_first_record,
                a_commit_without_offsets_is_refused,
                a_commit_of_offsets_alone_moves_them,
                a_fenced_producer_cannot_commit,
                init_ends_the_predecessors_transaction,
                readers_never_pass_an_open_transaction,
                both_isolations_agree_when_nothing_is_open,
                an_oversized_record_is_refused_before_it_is_sent,
                a_restart_finds_exactly_what_was_committed;
            groups:
                members_share_and_hand_over,
                a_revoked_partition_goes_only_when_released,
                a_member_that_leaves_hands_over_at_once,
                leaving_aborts_what_is_open,
                a_zombie_cannot_commit,
                a_zombie_is_told_and_may_come_back,
                a_released_partition_cannot_be_committed,
                groups_do_not_see_each_other;
            offsets:
                assigned_partitions_wait_for_start,
                start_seeks,
                a_start_out_of_range_names_both_offsets,
                a_paused_partition_yields_nothing_and_loses_nothing,
                a_poll_yields_at_most_what_was_asked,
                the_end_is_told,
                committed_offsets_can_be_read;
        }
    };
}

/// One test per line of "How weak Kafka is". The expression makes a
/// [`Weak`](crate::log::conformance::Weak) harness.
#[macro_export]
macro_rules! log_weakness {
    ($harness:expr) => {
        $crate::log_properties! { $harness;
            weak:
                a_zombies_transaction_without_offsets_is_accepted,
                offsets_of_no_generation_are_accepted,
                ends_follow_the_isolation,
                an_open_transaction_holds_back_the_committed_records_behind_it,
                an_uncommitted_reader_sees_what_is_aborted,
                markers_occupy_offsets,
                pending_offsets_are_waited_for,
                a_transaction_is_aborted_by_its_timeout,
                fencing_ends_the_transaction_of_a_silent_producer,
                a_static_member_is_back_at_once_another_waits_for_the_session,
                a_member_that_ends_without_leaving_keeps_its_partitions_for_the_session,
                a_second_process_of_one_instance_fences_the_first,
                what_a_killed_member_was_to_hand_over_finds_an_owner;
        }
    };
}
