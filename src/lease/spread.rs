//! After a change of leader all leases start again at once, and many would expire in the same second, more than are revoked in
//! one second. Their deadlines are spread, as in etcd, so that one group does not delay the next.

use crate::base::limits;

/// Below the rate of revocations, so that a group leaves room for other leases.
const TARGET_PER_SECOND: u64 = 3 * limits::LEASE_REVOKES_PER_SECOND as u64 / 4;
const SECOND_MS: u64 = 1000;

/// Moves deadlines later where too many fall into one second. They are sorted, before and after.
pub(super) fn spread(deadlines: &mut [(u64, i64)]) {
    let Some((first_ms, _)) = deadlines.first() else { return };
    let mut window_ms = *first_ms;
    let mut next_ms = window_ms + SECOND_MS;
    let mut expiring = 0;
    for (deadline_ms, _) in deadlines {
        if *deadline_ms > next_ms {
            window_ms = *deadline_ms;
            next_ms = window_ms + SECOND_MS;
            expiring = 1;
            continue;
        }
        expiring += 1;
        if expiring > TARGET_PER_SECOND {
            let place_ms = SECOND_MS * expiring / TARGET_PER_SECOND;
            let delay_ms = place_ms.saturating_sub(*deadline_ms - window_ms);
            next_ms = window_ms + delay_ms;
            *deadline_ms += delay_ms;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pile_becomes_a_row() {
        let mut deadlines: Vec<(u64, i64)> = (0..7500).map(|id| (60_000, id)).collect();
        spread(&mut deadlines);
        assert!(deadlines.is_sorted());
        for second in 60..70 {
            let in_it = deadlines.iter().filter(|(ms, _)| ms / 1000 == second).count();
            assert!(in_it <= 2 * TARGET_PER_SECOND as usize, "{in_it} in second {second}");
        }
        assert_eq!(deadlines.last(), Some(&(70_000, 7499)));
    }

    #[test]
    fn what_is_apart_stays_where_it_is() {
        let mut deadlines: Vec<(u64, i64)> = (0..5000).map(|id| (60_000 + 10 * id as u64, id)).collect();
        let before = deadlines.clone();
        spread(&mut deadlines);
        assert_eq!(deadlines, before);
        spread(&mut []);
    }
}
