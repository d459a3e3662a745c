//! The cells of one core.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::family::{FAMILIES, Family, Kind, Name};

const FIRST_CELLS: [usize; FAMILIES.len()] = first_cells();
const CELLS: usize = FIRST_CELLS[FAMILIES.len() - 1] + FAMILIES[FAMILIES.len() - 1].cells();

/// The first cell of each family. Labelled families have their cells in their series.
const fn first_cells() -> [usize; FAMILIES.len()] {
    let mut first = [0; FAMILIES.len()];
    let mut at = 1;
    while at < FAMILIES.len() {
        first[at] = first[at - 1] + FAMILIES[at - 1].cells();
        at += 1;
    }
    first
}

/// Everything one core counts, except gRPC methods.
pub struct Sheet {
    cells: Box<[AtomicU64]>,
    /// Locked when a handle is made and when the sheet is read.
    labelled: Mutex<Vec<(Name, Series)>>,
}

impl Default for Sheet {
    fn default() -> Self {
        Self { cells: zeros(CELLS).collect(), labelled: Mutex::new(Vec::new()) }
    }
}

impl Sheet {
    /// Adds to a counter.
    pub fn add(&self, name: Name, amount: u64) {
        add(name.family(), self.cells(name), amount);
    }

    /// Sets a gauge.
    pub fn set(&self, name: Name, value: i64) {
        set(name.family(), self.cells(name), value);
    }

    /// Moves a gauge.
    pub fn change(&self, name: Name, by: i64) {
        change(name.family(), self.cells(name), by);
    }

    /// Adds a value to a histogram, in the unit of its name.
    pub fn observe(&self, name: Name, value: f64) {
        observe(name.family(), self.cells(name), value);
    }

    /// The series of a labelled family with these values (in the order of [`Family::labels`]); made if new.
    pub fn series(&self, name: Name, values: &[&str]) -> Series {
        let family = name.family();
        assert_eq!(values.len(), family.labels.len(), "{} has other labels", family.name);
        let mut labelled = self.labelled.lock().unwrap_or_else(PoisonError::into_inner);
        let known = labelled.iter().find(|(other, series)| *other == name && series.values.iter().eq(values));
        if let Some((_, series)) = known {
            return series.clone();
        }
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        let series = Series { family, values, cells: zeros(family.cells()).collect() };
        labelled.push((name, series.clone()));
        series
    }

    /// Every series of `name` with its cells.
    pub(super) fn read(&self, name: Name) -> Vec<Read> {
        if name.family().labels.is_empty() {
            return vec![(Vec::new(), load(self.cells(name)))];
        }
        let labelled = self.labelled.lock().unwrap_or_else(PoisonError::into_inner);
        let of_name = labelled.iter().filter(|(other, _)| *other == name);
        of_name.map(|(_, series)| (series.values.to_vec(), load(&series.cells))).collect()
    }

    fn cells(&self, name: Name) -> &[AtomicU64] {
        debug_assert!(name.family().labels.is_empty(), "{name:?} has labels: use a series");
        let first = FIRST_CELLS[name as usize];
        &self.cells[first..first + name.family().cells()]
    }
}

/// A handle on one labelled series.
#[derive(Clone, Debug)]
pub struct Series {
    family: &'static Family,
    values: Arc<[String]>,
    cells: Arc<[AtomicU64]>,
}

impl Series {
    pub fn add(&self, amount: u64) {
        add(self.family, &self.cells, amount);
    }

    pub fn set(&self, value: i64) {
        set(self.family, &self.cells, value);
    }

    pub fn change(&self, by: i64) {
        change(self.family, &self.cells, by);
    }

    pub fn observe(&self, value: f64) {
        observe(self.family, &self.cells, value);
    }
}

/// One series as read: label values and cells.
pub(super) type Read = (Vec<String>, Vec<u64>);

pub(super) fn zeros(count: usize) -> impl Iterator<Item = AtomicU64> {
    (0..count).map(|_| AtomicU64::new(0))
}

pub(super) fn load(cells: &[AtomicU64]) -> Vec<u64> {
    cells.iter().map(|cell| cell.load(Ordering::Relaxed)).collect()
}

fn add(family: &Family, cells: &[AtomicU64], amount: u64) {
    debug_assert_eq!(family.kind, Kind::Counter, "{}", family.name);
    bump(&cells[0], amount);
}

fn set(family: &Family, cells: &[AtomicU64], value: i64) {
    debug_assert_eq!(family.kind, Kind::Gauge, "{}", family.name);
    cells[0].store(value as u64, Ordering::Relaxed);
}

fn change(family: &Family, cells: &[AtomicU64], by: i64) {
    debug_assert_eq!(family.kind, Kind::Gauge, "{}", family.name);
    bump(&cells[0], by as u64);
}

pub(super) fn observe(family: &Family, cells: &[AtomicU64], value: f64) {
    let Kind::Histogram(buckets) = family.kind else {
        unreachable!("{} is no histogram", family.name);
    };
    bump(&cells[buckets.index(value)], 1);
    let sum = &cells[buckets.count() + 1];
    let total = f64::from_bits(sum.load(Ordering::Relaxed)) + value;
    sum.store(total.to_bits(), Ordering::Relaxed);
}

/// Only one core writes the cell, so a load and a store lose nothing and cost less than an atomic addition.
fn bump(cell: &AtomicU64, by: u64) {
    cell.store(cell.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
}
