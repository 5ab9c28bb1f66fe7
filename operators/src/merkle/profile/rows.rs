//! Rows of leaf data: merged and ordered as the profile says, then hashed.
//!
//! Invariant: a row that does not fit is refused with its place, and then nothing is hashed.

use std::collections::BTreeMap;

use super::{Duplicates, LeafOrder, Profile};
use crate::merkle::{
    hash::Hash,
    leaf::{FieldError, Value},
    tree::{Tree, TreeError},
};

/// The values of one leaf: those of [`Profile::asked`], in order.
pub type Row = Vec<Value>;

/// Why rows give no tree.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// A row does not fit the profile.
    #[error("row {row}: {error}")]
    Field {
        /// The row, counted from 0, in the order of arrival.
        row: usize,
        /// What is wrong.
        error: FieldError,
    },
    /// There is no such tree.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

impl Profile {
    /// Checks the rows and brings them into the order in which they are hashed: equal ones merged,
    /// ordered by a field where the profile says so. (Order by hash is the tree's business.)
    ///
    /// # Errors
    /// The first row that does not fit, or whose sum does not.
    pub fn arrange(&self, rows: Vec<Row>) -> Result<Vec<Row>, RowError> {
        for (row, values) in rows.iter().enumerate() {
            self.encode(values).map_err(|error| RowError::Field { row, error })?;
        }
        let mut rows = match &self.duplicates {
            Duplicates::Merge(key) => self.merge(key, rows)?,
            _ => rows,
        };
        if let LeafOrder::Field(name) = &self.order
            && let Some(at) = self.asked().position(|field| field.name == *name)
        {
            rows.sort_by(|a, b| a[at].cmp(&b[at]));
        }
        Ok(rows)
    }

    fn merge(&self, key: &str, rows: Vec<Row>) -> Result<Vec<Row>, RowError> {
        let Some(key) = self.asked().position(|field| field.name == key) else { return Ok(rows) };
        let mut places: BTreeMap<Value, usize> = BTreeMap::new();
        let mut merged: Vec<Row> = Vec::new();
        for (row, values) in rows.into_iter().enumerate() {
            let Some(&at) = places.get(&values[key]) else {
                places.insert(values[key].clone(), merged.len());
                merged.push(values);
                continue;
            };
            for ((field, sum), value) in self.asked().zip(&mut merged[at]).zip(&values) {
                let (Value::Uint(before), Value::Uint(more)) = (&*sum, value) else { continue };
                if field.name == self.asked().nth(key).map_or("", |own| &own.name) {
                    continue;
                }
                let overflow = |why: String| RowError::Field { row, error: field.error(why) };
                let total = before
                    .checked_add(*more)
                    .ok_or_else(|| overflow("the sum needs more than 256 bits".to_owned()))?;
                let total = Value::Uint(total);
                field.check(&total).map_err(|error| overflow(format!("the sum, {}", error.why)))?;
                *sum = total;
            }
        }
        Ok(merged)
    }

    /// The leaf hashes of arranged rows.
    ///
    /// # Errors
    /// The first row that does not fit.
    pub fn leaves(&self, rows: &[Row]) -> Result<Vec<Hash>, RowError> {
        let hash = |(row, values): (usize, &Row)| {
            self.leaf(values).map_err(|error| RowError::Field { row, error })
        };
        rows.iter().enumerate().map(hash).collect()
    }

    /// The tree of rows in any order, and the rows as they are arranged: row `i` is the leaf that
    /// the tree was given as its `i`-th.
    ///
    /// # Errors
    /// A row that does not fit, or too few or too many of them.
    pub fn tree(&self, rows: Vec<Row>) -> Result<(Tree, Vec<Row>), RowError> {
        let rows = self.arrange(rows)?;
        let tree = Tree::build(&self.rules(), self.leaves(&rows)?)?;
        Ok((tree, rows))
    }
}
