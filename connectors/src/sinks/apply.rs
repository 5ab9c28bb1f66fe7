//! Operations onto rows, in bulk, as if one after another.
//!
//! A chunk of operations is written in rounds: in a round each row is touched once, so a round is
//! one statement for each table and kind of operation, parents before children. A row that the
//! database refuses rolls its chunk back; the chunk is halved until the record at fault is alone.
//! Invariants: operations on one row take effect in their order; a refused row leaves the others
//! standing; an operation whose parent is missing waits, and the later ones of its row with it.

use std::collections::{HashMap, HashSet};

use semel_schemas::fault::{Fault, FaultCode};

use super::{
    cell::Cell,
    mapping::OnConflict,
    plan::{Act, Op, Plan, TablePlan},
    session::{DbError, Rows, Session},
    sql::Dialect,
};

/// A row: index of the table, and its id.
pub(super) type RowKey = (usize, String);

/// An operation that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    /// The operation.
    pub(super) op: Op,
    /// The parent that it waits for: table and row id; none if it only waits behind its row.
    pub(super) parent: Option<(String, String)>,
}

/// What became of operations.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// Rows changed.
    pub(super) rows: u64,
    /// Records (by index) that fit no row.
    pub(super) refused: Vec<(usize, Fault)>,
    /// Operations that wait, in order.
    pub(super) waiting: Vec<Waiting>,
    /// Rows for which operations wait.
    pub(super) blocked: HashSet<RowKey>,
}

/// Applies operations within a transaction.
pub(super) struct Applier<'a> {
    /// The mapping.
    pub(super) plan: &'a Plan,
    /// How statements are written.
    pub(super) dialect: &'a Dialect,
    /// The transaction.
    pub(super) session: &'a mut dyn Session,
}

impl Applier<'_> {
    /// Applies operations in order; `blocked` names the rows for which older ones wait.
    pub(super) async fn apply(
        &mut self,
        ops: Vec<Op>,
        blocked: HashSet<RowKey>,
    ) -> Result<Work, DbError> {
        let mut work = Work { blocked, ..Work::default() };
        let mut chunks = self.segments(ops);
        chunks.reverse();
        while let Some(mut chunk) = chunks.pop() {
            self.session.command("SAVEPOINT semel_chunk").await?;
            match self.chunk(&chunk, &work.blocked).await {
                Ok((rows, waiting)) => {
                    self.session.command("RELEASE SAVEPOINT semel_chunk").await?;
                    work.rows += rows;
                    for waiting in waiting {
                        work.blocked.insert((waiting.op.table, waiting.op.key.clone()));
                        work.waiting.push(waiting);
                    }
                }
                Err(DbError::Row(text)) => {
                    self.session.command("ROLLBACK TO SAVEPOINT semel_chunk").await?;
                    self.session.command("RELEASE SAVEPOINT semel_chunk").await?;
                    let right = chunk.split_off(chunk.len() / 2);
                    if chunk.is_empty() {
                        work.refused
                            .extend(right.iter().map(|op| (op.record, self.fault(op, &text))));
                    } else {
                        chunks.extend([right, chunk]);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(work)
    }

    fn fault(&self, op: &Op, text: &str) -> Fault {
        let table = self.dialect.place(&self.plan.tables[op.table].spec.table);
        Fault::new(
            FaultCode::Poison,
            format!("the database refuses row `{}` of table {table}: {text}", op.key),
        )
    }

    /// Within a chunk parents are written before children, whatever their order; so the deletion
    /// of a parent is a border that nothing crosses.
    fn segments(&self, ops: Vec<Op>) -> Vec<Vec<Op>> {
        let border = |op: &Op| op.act == Act::Delete && self.plan.tables[op.table].is_parent;
        let mut segments: Vec<Vec<Op>> = Vec::new();
        for op in ops {
            match segments.last_mut() {
                Some(last) if last.last().is_some_and(|l| border(l) == border(&op)) => {
                    last.push(op);
                }
                _ => segments.push(vec![op]),
            }
        }
        segments
    }

    async fn chunk(
        &mut self,
        ops: &[Op],
        blocked: &HashSet<RowKey>,
    ) -> Result<(u64, Vec<Waiting>), DbError> {
        let plan = self.plan;
        let mut rows = 0;
        let mut waiting = Vec::new();
        let mut held: HashSet<(usize, &str)> =
            blocked.iter().map(|(table, key)| (*table, key.as_str())).collect();
        for round in rounds(plan, ops) {
            for table in plan.order.iter().copied() {
                let (now, later): (Vec<&Op>, Vec<&Op>) = round
                    .iter()
                    .filter(|op| op.table == table)
                    .partition(|op| !held.contains(&(op.table, op.key.as_str())));
                let behind = later.into_iter().map(|op| Waiting {
                    parent: plan.tables[table]
                        .first_parent(&op.act)
                        .map(|(table, key)| (table.to_owned(), key.to_owned())),
                    op: op.clone(),
                });
                waiting.extend(behind);
                if !now.is_empty() {
                    let (changed, missing) = self.table(&plan.tables[table], &now).await?;
                    rows += changed;
                    held.extend(missing.iter().map(|(op, _)| (op.table, op.key.as_str())));
                    waiting.extend(
                        missing
                            .into_iter()
                            .map(|(op, parent)| Waiting { op: op.clone(), parent: Some(parent) }),
                    );
                }
            }
        }
        waiting.sort_by_key(|waiting| waiting.op.record);
        Ok((rows, waiting))
    }

    /// One round of one table: rows changed, and what waits for which parent.
    async fn table<'o>(
        &mut self,
        table: &TablePlan,
        ops: &[&'o Op],
    ) -> Result<(u64, Vec<(&'o Op, (String, String))>), DbError> {
        let (upserts, missing) = self.resolve(table, ops).await?;
        let mut changed = 0;
        if !upserts.is_empty() {
            changed += self.upsert(table, upserts).await?;
        }
        let keys = |act: &Act| {
            let mut rows = Rows::new(1 + table.set.len());
            for op in ops.iter().filter(|op| op.act == *act) {
                let constants = table.set.iter().map(|(_, _, cell)| Some(cell.clone()));
                rows.push(std::iter::once(Some(op.key.clone())).chain(constants));
            }
            rows
        };
        let set = keys(&Act::Set);
        if set.len() > 0 {
            changed += self.session.run(self.dialect.set(table), set).await?;
        }
        let delete = keys(&Act::Delete);
        if delete.len() > 0 {
            changed += self.session.run(self.dialect.delete(table), delete).await?;
        }
        Ok((changed, missing))
    }

    /// The upserts of a round with their lookups' values, and those whose parent is missing.
    async fn resolve<'o>(
        &mut self,
        table: &TablePlan,
        ops: &[&'o Op],
    ) -> Result<(Vec<(String, Vec<Cell>)>, Vec<(&'o Op, (String, String))>), DbError> {
        let upserts = ops.iter().filter_map(|op| match &op.act {
            Act::Upsert(cells) => Some((*op, cells)),
            Act::Delete | Act::Set => None,
        });
        let upserts: Vec<_> = upserts.collect();
        let mut found = Vec::new();
        for (index, lookup) in table.lookups() {
            let mut keys = Rows::new(1);
            let wanted: HashSet<_> =
                upserts.iter().filter_map(|(_, cells)| cells[index].as_ref()).collect();
            wanted.into_iter().for_each(|key| keys.push([Some(key.clone())]));
            let mut values = HashMap::new();
            if keys.len() > 0 {
                let sql = self.dialect.lookup(&lookup.table, &lookup.column);
                for mut row in self.session.fetch(sql, keys).await? {
                    if let (Some(Some(value)), Some(Some(key))) = (row.pop(), row.pop()) {
                        values.insert(key, value);
                    }
                }
            }
            found.push((index, &lookup.table, values));
        }
        let (mut ready, mut missing) = (Vec::with_capacity(upserts.len()), Vec::new());
        'upserts: for (op, cells) in upserts {
            let mut cells = cells.clone();
            for (index, parent, values) in &found {
                let Some(key) = cells[*index].take() else { continue };
                match values.get(&key) {
                    Some(value) => cells[*index] = Some(value.clone()),
                    None => {
                        missing.push((op, ((*parent).clone(), key)));
                        continue 'upserts;
                    }
                }
            }
            ready.push((op.key.clone(), cells));
        }
        Ok((ready, missing))
    }

    async fn upsert(
        &mut self,
        table: &TablePlan,
        mut upserts: Vec<(String, Vec<Cell>)>,
    ) -> Result<u64, DbError> {
        let width = table.columns.len() + 1;
        let rows = |upserts: &[(String, Vec<Cell>)]| {
            let mut rows = Rows::new(width);
            for (key, cells) in upserts {
                rows.push(std::iter::once(Some(key.clone())).chain(cells.iter().cloned()));
            }
            rows
        };
        let mut changed = 0;
        match table.spec.on_conflict {
            // Partitions may bring the same rows: in one order, so that they do not deadlock.
            OnConflict::Keep => upserts.sort(),
            OnConflict::Update => {
                let updated =
                    self.session.fetch(self.dialect.update(table), rows(&upserts)).await?;
                let updated: HashSet<String> = updated.into_iter().flatten().flatten().collect();
                changed += updated.len() as u64;
                upserts.retain(|(key, _)| !updated.contains(key));
            }
        }
        if !upserts.is_empty() {
            changed += self.session.run(self.dialect.insert(table), rows(&upserts)).await?;
        }
        Ok(changed)
    }
}

/// Distributes operations over rounds: in a round each row is touched once. Upserts of a row that
/// follow each other are one, unless they could have to wait.
fn rounds<'o>(plan: &Plan, ops: &'o [Op]) -> Vec<Vec<&'o Op>> {
    let mut rounds: Vec<Vec<&Op>> = Vec::new();
    let mut last: HashMap<(usize, &str), (usize, usize)> = HashMap::new();
    for op in ops {
        let table = &plan.tables[op.table];
        let round = match last.get(&(op.table, op.key.as_str())) {
            None => 0,
            Some(&(round, slot)) => {
                let both =
                    matches!((&rounds[round][slot].act, &op.act), (Act::Upsert(_), Act::Upsert(_)));
                if both && table.lookups().next().is_none() {
                    if table.spec.on_conflict == OnConflict::Update {
                        rounds[round][slot] = op;
                    }
                    continue;
                }
                round + 1
            }
        };
        if rounds.len() == round {
            rounds.push(Vec::new());
        }
        last.insert((op.table, op.key.as_str()), (round, rounds[round].len()));
        rounds[round].push(op);
    }
    rounds
}
