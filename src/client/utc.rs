//! Moments for people.

use std::fmt;

/// A moment, in seconds since 1970; shown as `2026-03-01 12:00:05 UTC`, since clients, processes
/// and whoever reads it may be in different time zones.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Utc(pub u64);

const DAY_SECONDS: u64 = 86_400;

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = date(self.0 / DAY_SECONDS);
        let of_day = self.0 % DAY_SECONDS;
        let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC"
        )
    }
}

/// The date so many days after the first of January 1970.
fn date(days: u64) -> (u64, u64, u64) {
    // Counted from the first of March of the year 0, so that leap days end their years: then the
    // length of a cycle of 4, 100 or 400 years does not depend on where it begins.
    const DAYS_TO_1970: u64 = 719_468;
    const ERA_YEARS: u64 = 400;
    const ERA_DAYS: u64 = 146_097;
    const LEAP_CYCLE_DAYS: u64 = 4 * 365 + 1;
    const CENTURY_DAYS: u64 = 25 * LEAP_CYCLE_DAYS - 1;
    let days = days.saturating_add(DAYS_TO_1970);
    let of_era = days % ERA_DAYS;
    let leap_days_before =
        of_era / (LEAP_CYCLE_DAYS - 1) - of_era / CENTURY_DAYS + of_era / (ERA_DAYS - 1);
    let year_of_era = (of_era - leap_days_before) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // From March on, five months have 153 days: 31, 30, 31, 30, 31.
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = days / ERA_DAYS * ERA_YEARS + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_shown_as_their_dates() {
        for (seconds, shown) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (951_868_800, "2000-03-01 00:00:00 UTC"),
            (1_000_000_000, "2001-09-09 01:46:40 UTC"),
            (1_709_164_800, "2024-02-29 00:00:00 UTC"),
            (1_767_225_599, "2025-12-31 23:59:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(Utc(seconds).to_string(), shown);
        }
    }

    #[test]
    fn dates_follow_one_another() {
        let mut before = date(0);
        for days in 1..200_000 {
            let (year, month, day) = date(days);
            let follows = match before {
                (old_year, 12, 31) => (year, month, day) == (old_year + 1, 1, 1),
                (old_year, old_month, old_day) => {
                    (year, month, day) == (old_year, old_month, old_day + 1)
                        || (year, month, day) == (old_year, old_month + 1, 1) && old_day >= 28
                }
            };
            assert!(follows, "{before:?} and {:?}", (year, month, day));
            before = (year, month, day);
        }
    }
}
