//! Rows by key that can be taken back: what a unit wrote is remembered until it is kept or undone.

use std::collections::BTreeMap;
use std::ops::RangeBounds;

pub(crate) struct Table<K, V> {
    rows: BTreeMap<K, V>,
    /// What was there before each write of the unit that is under way, oldest first.
    before: Vec<(K, Option<V>)>,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self { rows: BTreeMap::new(), before: Vec::new() }
    }
}

impl<K: Ord + Clone, V: Clone> Table<K, V> {
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.rows.get(key)
    }

    pub(crate) fn has(&self, key: &K) -> bool {
        self.rows.contains_key(key)
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.rows.iter()
    }

    pub(crate) fn values(&self) -> impl DoubleEndedIterator<Item = &V> {
        self.rows.values()
    }

    pub(crate) fn range(&self, range: impl RangeBounds<K>) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.rows.range(range)
    }

    pub(crate) fn put(&mut self, key: K, row: V) {
        let before = self.rows.insert(key.clone(), row);
        self.before.push((key, before));
    }

    /// Changes a row; false when there is none.
    pub(crate) fn change(&mut self, key: &K, change: impl FnOnce(&mut V)) -> bool {
        let Some(row) = self.rows.get_mut(key) else { return false };
        self.before.push((key.clone(), Some(row.clone())));
        change(row);
        true
    }

    /// Removes a row; whether there was one.
    pub(crate) fn remove(&mut self, key: &K) -> bool {
        let Some(row) = self.rows.remove(key) else { return false };
        self.before.push((key.clone(), Some(row)));
        true
    }

    /// Removes every row that `goes` says so of; how many.
    pub(crate) fn remove_where(&mut self, goes: impl Fn(&K, &V) -> bool) -> u64 {
        let keys: Vec<K> = self.rows.iter().filter(|(key, row)| goes(key, row)).map(|(key, _)| key.clone()).collect();
        keys.iter().map(|key| u64::from(self.remove(key))).sum()
    }

    /// Each write of the unit in order: key, the row before and the row after it.
    pub(crate) fn writes(&self) -> impl Iterator<Item = (&K, Option<&V>, Option<&V>)> {
        self.before.iter().enumerate().map(|(position, (key, before))| {
            let later = self.before.iter().skip(position + 1).find(|(other, _)| other == key);
            let after = later.map_or_else(|| self.rows.get(key), |(_, row)| row.as_ref());
            (key, before.as_ref(), after)
        })
    }

    pub(crate) fn keep(&mut self) {
        self.before.clear();
    }

    pub(crate) fn undo(&mut self) {
        while let Some((key, before)) = self.before.pop() {
            match before {
                Some(row) => self.rows.insert(key, row),
                None => self.rows.remove(&key),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_undone_unit_leaves_nothing_and_a_kept_one_all() {
        let mut table: Table<u32, u32> = Table::default();
        table.put(1, 10);
        table.keep();
        table.put(1, 11);
        table.put(2, 20);
        table.change(&2, |row| *row += 1);
        table.remove(&1);
        let writes: Vec<_> =
            table.writes().map(|(key, before, after)| (*key, before.copied(), after.copied())).collect();
        let wanted = [(1, Some(10), Some(11)), (2, None, Some(20)), (2, Some(20), Some(21)), (1, Some(11), None)];
        assert_eq!(writes, wanted);
        table.undo();
        assert_eq!(table.iter().collect::<Vec<_>>(), [(&1, &10)]);
        assert_eq!(table.writes().count(), 0);
        assert_eq!(table.remove_where(|_, row| *row == 10), 1);
        table.keep();
        table.undo();
        assert_eq!(table.iter().count(), 0);
    }
}
