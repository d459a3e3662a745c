//! Real time: what begins after another operation has ended must not see or make an older state.

/// The newest revision that any client has been told.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    told: i64,
}

impl Default for Order {
    fn default() -> Self {
        Self { told: super::journal::FIRST }
    }
}

impl Order {
    /// The revision that an operation which begins now must reach.
    #[must_use]
    pub fn floor(&self) -> i64 {
        self.told
    }

    /// An operation ends that had this floor, at this revision.
    ///
    /// # Errors
    /// It is older than its floor.
    pub fn ended(&mut self, floor: i64, revision: i64, has_written: bool) -> Result<(), String> {
        if revision < floor || has_written && revision == floor {
            let what = if has_written { "writes" } else { "sees" };
            return Err(format!("an operation {what} revision {revision}, and {floor} was known before it began"));
        }
        self.told = self.told.max(revision);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_bites() {
        let mut order = Order::default();
        let floor = order.floor();
        assert_eq!(order.ended(floor, 5, true), Ok(()));
        assert_eq!(order.ended(floor, 3, true), Ok(()), "it ran beside the other");
        let floor = order.floor();
        assert!(order.ended(floor, 4, false).is_err() && order.ended(floor, 5, true).is_err());
        assert_eq!(order.ended(floor, 5, false), Ok(()));
    }
}
