//! Human-readable sizes, for log lines and the command line.

/// Sizes in powers of 1000 with two significant digits, as go-humanize prints them: `20 kB`, `2.1 GB`.
#[must_use]
pub fn human_size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let exponent = ((bytes as f64).ln() / 1000_f64.ln()).floor();
    let value = (bytes as f64 / 1000_f64.powf(exponent) * 10.0 + 0.5).floor() / 10.0;
    let unit = UNITS[exponent as usize];
    if value < 10.0 { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::human_size;

    #[test]
    fn as_go_humanize_prints_them() {
        for (bytes, text) in [(0, "0 B"), (9, "9 B"), (25, "25 B"), (20_480, "20 kB"), (2_147_483_648, "2.1 GB")] {
            assert_eq!(human_size(bytes), text);
        }
    }
}
