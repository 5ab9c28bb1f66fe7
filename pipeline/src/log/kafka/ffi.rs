//! The calls into librdkafka for which rust-rdkafka has no word, and nothing else: the only file
//! of the crate with `unsafe`.
//!
//! - [`EventQueue`]: a consumer's queue read event by event. rust-rdkafka's own `poll` runs the
//!   rebalance hook inside itself with `&self` (Kafka trap 33) and forgets the offset of an end of
//!   partition, without which a position behind markers cannot be told (trap 17).
//! - [`GroupMetadata`]: generation and member id, opaque there (trap 34).
//! - [`send_offsets`] and [`flush`]: traps 34 and 40.
//! - [`describe_topic`]: the topic id (KIP-516, trap 28).
//! - [`describe_group`]: which partitions have an owner; rust-rdkafka tells it as undecoded bytes.
//!
//! Invariants: every native object is owned by exactly one Rust value, which destroys it; whoever
//! holds an [`EventQueue`] drops it before its client; no pointer leaves this file.
#![expect(unsafe_code, reason = "librdkafka is a C library")]

use std::{
    collections::BTreeSet,
    ffi::{CStr, CString, c_char, c_int, c_void},
    ptr,
    ptr::NonNull,
    time::Duration,
};

use rdkafka::{
    TopicPartitionList,
    client::{Client, ClientContext},
    error::RDKafkaErrorCode,
};
use rdkafka_sys as sys;
use semel_schemas::{
    header::Headers,
    record::Record,
    topic::{NextOffset, Offset, Partition, TopicId, TopicName},
};

/// A duration as librdkafka takes it.
fn millis(wait: Duration) -> c_int {
    c_int::try_from(wait.as_millis()).unwrap_or(c_int::MAX)
}

/// A C string as text.
///
/// # Safety
/// `text` is null or a terminated string that outlives the call.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// A copy of native bytes; `None` for a null pointer.
///
/// # Safety
/// `data` is null or points to `len` bytes that outlive the call.
unsafe fn bytes(data: *const c_void, len: usize) -> Option<Vec<u8>> {
    if data.is_null() {
        return None;
    }
    // SAFETY: the caller's promise.
    Some(unsafe { std::slice::from_raw_parts(data.cast::<u8>(), len) }.to_vec())
}

/// An error of a transactional call.
#[derive(Clone, Debug)]
pub(super) struct NativeError {
    /// librdkafka's code.
    pub(super) code: RDKafkaErrorCode,
    /// librdkafka's sentence.
    pub(super) text: String,
    /// The client is of no use any more.
    pub(super) fatal: bool,
    /// The same call may be made again.
    pub(super) retriable: bool,
    /// The transaction must be aborted.
    pub(super) requires_abort: bool,
}

impl NativeError {
    /// Takes an error over; `Ok` for a null pointer.
    ///
    /// # Safety
    /// `error` is null or an error that nobody else destroys.
    unsafe fn take(error: *mut sys::rd_kafka_error_t) -> Result<(), Self> {
        if error.is_null() {
            return Ok(());
        }
        // SAFETY: not null, ours until it is destroyed here, and not used after.
        unsafe {
            let taken = Self {
                code: sys::rd_kafka_error_code(error).into(),
                text: text(sys::rd_kafka_error_string(error)),
                fatal: sys::rd_kafka_error_is_fatal(error) != 0,
                retriable: sys::rd_kafka_error_is_retriable(error) != 0,
                requires_abort: sys::rd_kafka_error_txn_requires_abort(error) != 0,
            };
            sys::rd_kafka_error_destroy(error);
            Err(taken)
        }
    }
}

/// What a consumer's queue holds.
#[derive(Debug)]
pub(super) enum QueueEvent {
    /// A record of the topic that was asked for.
    Record(Record),
    /// A partition was read to its end, which was here.
    End(Partition, NextOffset),
    /// The group gives us these partitions in addition.
    Assign(Vec<Partition>),
    /// The group wants these partitions back.
    Revoke(Vec<Partition>),
    /// Something went wrong, here if it concerns a partition.
    Error { code: RDKafkaErrorCode, text: String, fatal: bool, at: Option<(Partition, i64)> },
    /// A log line: syslog level (0 to 7), facility, text.
    Log(i32, String, String),
    /// Nothing of interest.
    Other,
}

/// A native event, destroyed with this value.
struct NativeEvent(NonNull<sys::rd_kafka_event_t>);

impl Drop for NativeEvent {
    fn drop(&mut self) {
        // SAFETY: made by `rd_kafka_queue_poll`, owned by this value alone.
        unsafe { sys::rd_kafka_event_destroy(self.0.as_ptr()) }
    }
}

/// A queue of native events. Must be dropped before its client.
#[derive(Debug)]
pub(super) struct EventQueue(NonNull<sys::rd_kafka_queue_t>);

// SAFETY: librdkafka's queues may be used from any thread; this one has a single owner.
unsafe impl Send for EventQueue {}

impl EventQueue {
    /// The queue of a consumer; `None` if the client is no consumer with a group.
    pub(super) fn of_consumer<C: ClientContext>(client: &Client<C>) -> Option<Self> {
        // SAFETY: the client is alive; the queue is a counted reference of our own.
        NonNull::new(unsafe { sys::rd_kafka_queue_get_consumer(client.native_ptr()) }).map(Self)
    }

    /// The next native event, waiting at most `wait`.
    fn next(&self, wait: Duration) -> Option<NativeEvent> {
        // SAFETY: the queue is alive as long as this value.
        let event = unsafe { sys::rd_kafka_queue_poll(self.0.as_ptr(), millis(wait)) };
        NonNull::new(event).map(NativeEvent)
    }

    /// The next event, waiting at most `wait`. `topic` is the one topic of this consumer.
    pub(super) fn poll(&self, topic: &TopicName, wait: Duration) -> Option<QueueEvent> {
        let event = self.next(wait)?;
        let raw = event.0.as_ptr();
        // SAFETY: the event is alive until the end of this function; everything read from it is
        // copied.
        Some(unsafe {
            match sys::rd_kafka_event_type(raw) {
                sys::RD_KAFKA_EVENT_FETCH => record(raw, topic),
                sys::RD_KAFKA_EVENT_ERROR => error(raw),
                sys::RD_KAFKA_EVENT_REBALANCE => rebalance(raw),
                sys::RD_KAFKA_EVENT_LOG => log(raw),
                _ => QueueEvent::Other,
            }
        })
    }
}

impl Drop for EventQueue {
    fn drop(&mut self) {
        // SAFETY: our own counted reference.
        unsafe { sys::rd_kafka_queue_destroy(self.0.as_ptr()) }
    }
}

/// A partition's or offset's number; librdkafka's negative ones are no real ones.
fn partition(raw: i32) -> Partition {
    Partition(u32::try_from(raw).unwrap_or(u32::MAX))
}

/// # Safety
/// `event` is a live event of the type FETCH.
unsafe fn record(event: *mut sys::rd_kafka_event_t, topic: &TopicName) -> QueueEvent {
    // SAFETY: a message lives as long as its event; its fields are valid or null.
    unsafe {
        let Some(message) = sys::rd_kafka_event_message_next(event).as_ref() else {
            return QueueEvent::Other;
        };
        // A record of a topic that was left behind: its consumer was seeked elsewhere.
        if message.rkt.is_null()
            || CStr::from_ptr(sys::rd_kafka_topic_name(message.rkt)).to_bytes()
                != topic.as_str().as_bytes()
        {
            return QueueEvent::Other;
        }
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        let timestamp = sys::rd_kafka_message_timestamp(message, &raw mut kind);
        QueueEvent::Record(Record {
            topic: topic.clone(),
            partition: partition(message.partition),
            offset: Offset(u64::try_from(message.offset).unwrap_or(0)),
            timestamp_ms: u64::try_from(timestamp).unwrap_or(0),
            key: bytes(message.key, message.key_len),
            value: bytes(message.payload, message.len),
            headers: headers(message),
        })
    }
}

/// # Safety
/// `message` is alive.
unsafe fn headers(message: *const sys::rd_kafka_message_t) -> Headers {
    let mut found = Headers::new();
    let mut list = ptr::null_mut();
    // SAFETY: the list belongs to the message; names are terminated strings, values have the
    // length that is told.
    unsafe {
        if sys::rd_kafka_message_headers(message, &raw mut list)
            != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
        {
            return found;
        }
        let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
        for index in 0.. {
            if sys::rd_kafka_header_get_all(
                list,
                index,
                &raw mut name,
                &raw mut value,
                &raw mut size,
            ) != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
            {
                break;
            }
            found.push(text(name), bytes(value, size).unwrap_or_default());
        }
    }
    found
}

/// # Safety
/// `event` is a live event of the type ERROR.
unsafe fn error(event: *mut sys::rd_kafka_event_t) -> QueueEvent {
    // SAFETY: the caller's promise; the topic partition is a copy of our own.
    unsafe {
        let code = sys::rd_kafka_event_error(event).into();
        let place = sys::rd_kafka_event_topic_partition(event);
        let at = place.as_ref().map(|p| (partition(p.partition), p.offset));
        if !place.is_null() {
            sys::rd_kafka_topic_partition_destroy(place);
        }
        match (code, at) {
            (RDKafkaErrorCode::PartitionEOF, Some((partition, offset))) => {
                QueueEvent::End(partition, NextOffset(u64::try_from(offset).unwrap_or(0)))
            }
            _ => QueueEvent::Error {
                code,
                text: text(sys::rd_kafka_event_error_string(event)),
                fatal: sys::rd_kafka_event_error_is_fatal(event) != 0,
                at,
            },
        }
    }
}

/// # Safety
/// `event` is a live event of the type REBALANCE.
unsafe fn rebalance(event: *mut sys::rd_kafka_event_t) -> QueueEvent {
    // SAFETY: the list belongs to the event and holds `cnt` elements.
    unsafe {
        let partitions = match sys::rd_kafka_event_topic_partition_list(event).as_ref() {
            Some(list) if list.cnt > 0 => {
                let count = usize::try_from(list.cnt).unwrap_or(0);
                let elements = std::slice::from_raw_parts(list.elems, count);
                elements.iter().map(|e| partition(e.partition)).collect()
            }
            _ => Vec::new(),
        };
        match RDKafkaErrorCode::from(sys::rd_kafka_event_error(event)) {
            RDKafkaErrorCode::AssignPartitions => QueueEvent::Assign(partitions),
            RDKafkaErrorCode::RevokePartitions => QueueEvent::Revoke(partitions),
            code => QueueEvent::Error { code, text: "rebalance".into(), fatal: false, at: None },
        }
    }
}

/// # Safety
/// `event` is a live event of the type LOG.
unsafe fn log(event: *mut sys::rd_kafka_event_t) -> QueueEvent {
    let (mut facility, mut line, mut level) = (ptr::null(), ptr::null(), 0);
    // SAFETY: the strings belong to the event and are copied.
    unsafe {
        if sys::rd_kafka_event_log(event, &raw mut facility, &raw mut line, &raw mut level) != 0 {
            return QueueEvent::Other;
        }
        QueueEvent::Log(level, text(facility), text(line))
    }
}

/// A consumer's group metadata as of the moment when it was read. It is not `Clone`, and nothing
/// outside of a commit keeps one (Kafka trap 2).
#[derive(Debug)]
pub(super) struct GroupMetadata(NonNull<sys::rd_kafka_consumer_group_metadata_t>);

// SAFETY: an immutable copy with a single owner.
unsafe impl Send for GroupMetadata {}

impl GroupMetadata {
    /// Reads the metadata of a consumer; `None` if it has no group.
    pub(super) fn read<C: ClientContext>(consumer: &Client<C>) -> Option<Self> {
        // SAFETY: the client is alive; the result is a copy of our own.
        NonNull::new(unsafe { sys::rd_kafka_consumer_group_metadata(consumer.native_ptr()) })
            .map(Self)
    }

    /// The group's generation; negative for a consumer that is no member.
    pub(super) fn generation(&self) -> i32 {
        // SAFETY: alive as long as this value.
        unsafe { sys::rd_kafka_consumer_group_metadata_generation_id(self.0.as_ptr()) }
    }

    /// The member's id; empty for a consumer that is no member.
    pub(super) fn member(&self) -> String {
        // SAFETY: the string belongs to the metadata and is copied.
        unsafe { text(sys::rd_kafka_consumer_group_metadata_member_id(self.0.as_ptr())) }
    }
}

impl Drop for GroupMetadata {
    fn drop(&mut self) {
        // SAFETY: our own copy.
        unsafe { sys::rd_kafka_consumer_group_metadata_destroy(self.0.as_ptr()) }
    }
}

/// Adds offsets to the open transaction, under exactly the metadata that was checked.
pub(super) fn send_offsets<C: ClientContext>(
    producer: &Client<C>,
    offsets: &TopicPartitionList,
    metadata: &GroupMetadata,
    wait: Duration,
) -> Result<(), NativeError> {
    // SAFETY: all three are alive; the error is ours.
    unsafe {
        NativeError::take(sys::rd_kafka_send_offsets_to_transaction(
            producer.native_ptr(),
            offsets.ptr(),
            metadata.0.as_ptr(),
            millis(wait),
        ))
    }
}

/// Waits at most `wait` until nothing is unsent; true if so. Serves no reports: if some are due,
/// it waits in vain.
pub(super) fn flush<C: ClientContext>(producer: &Client<C>, wait: Duration) -> bool {
    // SAFETY: the client is alive.
    unsafe {
        sys::rd_kafka_flush(producer.native_ptr(), millis(wait))
            == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
    }
}

/// What the cluster says of a topic.
#[derive(Debug)]
pub(super) struct TopicDescription {
    pub(super) id: TopicId,
    pub(super) partitions: u32,
    /// Partitions that have a leader.
    pub(super) led: u32,
}

/// What the cluster says of a group.
#[derive(Debug)]
pub(super) struct GroupDescription {
    /// No rebalance is under way.
    pub(super) stable: bool,
    /// Partitions of the topic that was asked for that are some member's.
    pub(super) owned: BTreeSet<Partition>,
}

/// Where an answer of the cluster is waited for, and how long the question may take; destroyed with
/// this value.
struct Question {
    queue: *mut sys::rd_kafka_queue_t,
    options: *mut sys::rd_kafka_AdminOptions_t,
    wait: Duration,
}

impl Question {
    fn new<C: ClientContext>(
        client: &Client<C>,
        kind: sys::rd_kafka_admin_op_t,
        wait: Duration,
    ) -> Self {
        let rk = client.native_ptr();
        // SAFETY: the client is alive; both objects are this value's own.
        unsafe {
            let options = sys::rd_kafka_AdminOptions_new(rk, kind);
            sys::rd_kafka_AdminOptions_set_request_timeout(
                options,
                millis(wait),
                ptr::null_mut(),
                0,
            );
            Self { queue: sys::rd_kafka_queue_new(rk), options, wait }
        }
    }

    fn answer(&self) -> Result<NativeEvent, NativeError> {
        // The request has a deadline of its own; the second more is for its answer to arrive.
        let patience = millis(self.wait + Duration::from_secs(1));
        // SAFETY: the queue is ours, and so is the event.
        unsafe {
            let event = NonNull::new(sys::rd_kafka_queue_poll(self.queue, patience))
                .map(NativeEvent)
                .ok_or_else(|| unanswered(RDKafkaErrorCode::OperationTimedOut, "no answer"))?;
            let raw = event.0.as_ptr();
            match RDKafkaErrorCode::from(sys::rd_kafka_event_error(raw)) {
                RDKafkaErrorCode::NoError => Ok(event),
                code => Err(unanswered(code, &text(sys::rd_kafka_event_error_string(raw)))),
            }
        }
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        // SAFETY: made in `new`, owned by this value alone; neither is null.
        unsafe {
            sys::rd_kafka_AdminOptions_destroy(self.options);
            sys::rd_kafka_queue_destroy(self.queue);
        }
    }
}

/// A question to the cluster that failed, and may be asked again.
fn unanswered(code: RDKafkaErrorCode, text: &str) -> NativeError {
    NativeError {
        code,
        text: text.to_owned(),
        fatal: false,
        retriable: true,
        requires_abort: false,
    }
}

/// A name as C takes it.
fn c_name(name: &str) -> Result<CString, NativeError> {
    CString::new(name)
        .map_err(|_| unanswered(RDKafkaErrorCode::InvalidArgument, "a name with a NUL"))
}

/// Asks for a topic's id and partitions; `Ok(None)` if there is none of that name.
pub(super) fn describe_topic<C: ClientContext>(
    client: &Client<C>,
    topic: &TopicName,
    wait: Duration,
) -> Result<Option<TopicDescription>, NativeError> {
    use sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS as KIND;
    let name = c_name(topic.as_str())?;
    let mut names = [name.as_ptr()];
    let question = Question::new(client, KIND, wait);
    // SAFETY: the client is alive; names are copied by the collection, which the request copies;
    // the event is alive until the end of this function.
    unsafe {
        let topics = sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), 1);
        let rk = client.native_ptr();
        sys::rd_kafka_DescribeTopics(rk, topics, question.options, question.queue);
        sys::rd_kafka_TopicCollection_destroy(topics);
        let event = question.answer()?;
        let result = sys::rd_kafka_event_DescribeTopics_result(event.0.as_ptr());
        let mut count = 0;
        let topics = sys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        if topics.is_null() || count == 0 {
            return Ok(None);
        }
        described(*topics)
    }
}

/// Asks a group's coordinator for its state and for the owned partitions of a topic.
pub(super) fn describe_group<C: ClientContext>(
    client: &Client<C>,
    group: &str,
    topic: &TopicName,
    wait: Duration,
) -> Result<GroupDescription, NativeError> {
    use sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS as KIND;
    let name = c_name(group)?;
    let mut names = [name.as_ptr()];
    let question = Question::new(client, KIND, wait);
    // SAFETY: the client is alive; names are copied by the request; everything read belongs to the
    // event, which is alive until the end of this function, and is copied.
    unsafe {
        sys::rd_kafka_DescribeConsumerGroups(
            client.native_ptr(),
            names.as_mut_ptr(),
            1,
            question.options,
            question.queue,
        );
        let event = question.answer()?;
        let result = sys::rd_kafka_event_DescribeConsumerGroups_result(event.0.as_ptr());
        let mut count = 0;
        let groups = sys::rd_kafka_DescribeConsumerGroups_result_groups(result, &raw mut count);
        if groups.is_null() || count == 0 {
            return Err(unanswered(RDKafkaErrorCode::UnknownGroup, "an answer without the group"));
        }
        let error = sys::rd_kafka_ConsumerGroupDescription_error(*groups);
        if !error.is_null() {
            let code = sys::rd_kafka_error_code(error).into();
            return Err(unanswered(code, &text(sys::rd_kafka_error_string(error))));
        }
        let state = sys::rd_kafka_ConsumerGroupDescription_state(*groups);
        Ok(GroupDescription {
            stable: state
                == sys::rd_kafka_consumer_group_state_t::RD_KAFKA_CONSUMER_GROUP_STATE_STABLE,
            owned: owned(*groups, topic),
        })
    }
}

/// # Safety
/// `group` is alive.
unsafe fn owned(
    group: *const sys::rd_kafka_ConsumerGroupDescription_t,
    topic: &TopicName,
) -> BTreeSet<Partition> {
    let mut found = BTreeSet::new();
    // SAFETY: members, assignments and lists belong to the group; lists hold `cnt` elements.
    unsafe {
        for index in 0..sys::rd_kafka_ConsumerGroupDescription_member_count(group) {
            let member = sys::rd_kafka_ConsumerGroupDescription_member(group, index);
            let assignment = sys::rd_kafka_MemberDescription_assignment(member);
            if assignment.is_null() {
                continue;
            }
            let Some(list) = sys::rd_kafka_MemberAssignment_partitions(assignment).as_ref() else {
                continue;
            };
            let count = usize::try_from(list.cnt).unwrap_or(0);
            if count == 0 {
                continue;
            }
            for element in std::slice::from_raw_parts(list.elems, count) {
                if CStr::from_ptr(element.topic).to_bytes() == topic.as_str().as_bytes() {
                    found.insert(partition(element.partition));
                }
            }
        }
    }
    found
}

/// # Safety
/// `topic` is alive.
unsafe fn described(
    topic: *const sys::rd_kafka_TopicDescription_t,
) -> Result<Option<TopicDescription>, NativeError> {
    // SAFETY: everything belongs to the description; what is kept is copied.
    unsafe {
        let error = sys::rd_kafka_TopicDescription_error(topic);
        let code = RDKafkaErrorCode::from(sys::rd_kafka_error_code(error));
        match code {
            RDKafkaErrorCode::NoError => {}
            RDKafkaErrorCode::UnknownTopicOrPartition => return Ok(None),
            _ => {
                return Err(NativeError {
                    code,
                    text: text(sys::rd_kafka_error_string(error)),
                    fatal: false,
                    retriable: sys::rd_kafka_error_is_retriable(error) != 0,
                    requires_abort: false,
                });
            }
        }
        let mut count = 0;
        let partitions = sys::rd_kafka_TopicDescription_partitions(topic, &raw mut count);
        let led = (0..count)
            .filter(|i| {
                !sys::rd_kafka_TopicPartitionInfo_leader(*partitions.wrapping_add(*i)).is_null()
            })
            .count();
        let id = sys::rd_kafka_TopicDescription_topic_id(topic);
        Ok(Some(TopicDescription {
            id: TopicId(text(sys::rd_kafka_Uuid_base64str(id))),
            partitions: u32::try_from(count).unwrap_or(u32::MAX),
            led: u32::try_from(led).unwrap_or(u32::MAX),
        }))
    }
}
