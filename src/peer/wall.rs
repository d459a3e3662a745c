//! Wall time as Go writes it into JSON (RFC 3339), for probes.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::base::civil_time::date_and_time;

const DAY_SECONDS: i64 = 86_400;
const NANOS: i128 = 1_000_000_000;

/// Nanoseconds since 1970.
pub(super) type UnixNanos = i128;

pub(super) fn now() -> UnixNanos {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i128::try_from(since.as_nanos()).unwrap_or(i128::MAX)
}

/// `2026-11-25T17:15:39.5Z`.
pub(super) fn text(at: UnixNanos) -> String {
    let seconds = i64::try_from(at.div_euclid(NANOS)).unwrap_or_default();
    let nanos = at.rem_euclid(NANOS);
    let fraction = if nanos == 0 { String::new() } else { format!(".{nanos:09}").trim_end_matches('0').to_owned() };
    format!("{}{fraction}Z", date_and_time(seconds))
}

/// Reads what Go wrote, with any offset.
pub(super) fn parse(text: &str) -> Option<UnixNanos> {
    let (date, time) = text.split_once('T')?;
    let mut of_date = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (of_date.next()??, of_date.next()??, of_date.next()??);
    let at_offset = time.find(['Z', '+', '-'])?;
    let (time, offset) = time.split_at(at_offset);
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut of_time = time.splitn(3, ':').map(|part| part.parse::<i64>().ok());
    let (hour, minute, second) = (of_time.next()??, of_time.next()??, of_time.next()??);
    let nanos: i128 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    let is_date = (1970..10_000).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !is_date || !(0..24).contains(&hour) || !(0..60).contains(&minute) || !(0..=60).contains(&second) {
        return None;
    }
    let seconds = days(year, month, day) * DAY_SECONDS + hour * 3600 + minute * 60 + second - offset_seconds(offset)?;
    Some(i128::from(seconds) * NANOS + nanos)
}

fn offset_seconds(offset: &str) -> Option<i64> {
    if offset == "Z" {
        return Some(0);
    }
    let sign = if offset.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = offset.get(1..)?.split_once(':')?;
    let (hours, minutes) = (hours.parse::<u8>().ok()?, minutes.parse::<u8>().ok()?);
    Some(sign * (i64::from(hours) * 3600 + i64::from(minutes) * 60))
}

/// Days since 1970, by the inverse of what `base::civil_time` does.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * month_from_march + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_and_read_as_go_does() {
        for (nanos, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_709_164_799_500_000_000, "2024-02-28T23:59:59.5Z"),
            (1_709_164_800_000_000_000, "2024-02-29T00:00:00Z"),
            (1_795_626_939_000_000_001, "2026-11-25T17:15:39.000000001Z"),
        ] {
            assert_eq!(text(nanos), expected);
            assert_eq!(parse(expected), Some(nanos), "{expected}");
        }
        assert_eq!(parse("2026-11-25T18:15:39+01:00"), parse("2026-11-25T17:15:39Z"));
        assert_eq!(parse("2026-11-25T10:45:39.25-06:30"), parse("2026-11-25T17:15:39.25Z"));
        for bad in [
            "",
            "2026-11-25",
            "2026-13-25T00:00:00Z",
            "2026-11-25T99999999999999999:00:00Z",
            "2026-11-25T00:00:00",
            "x-y-zT1:2:3Z",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
