//! Times as people write them.

/// Milliseconds since 1970 of a time in UTC: `2026-11-28`, `2026-11-28T14:03` or `2026-11-28T14:03:05`.
///
/// # Errors
/// What is allowed, in words.
pub fn read(text: &str) -> Result<i64, String> {
    let wrong = || format!("`{text}` is no time; 2026-11-28, 2026-11-28T14:03 and 2026-11-28T14:03:05 are, in UTC");
    let (date, clock) = text.trim_end_matches('Z').split_once(['T', ' ']).unwrap_or((text, "00:00"));
    let numbers = |text: &str, separator: char, widths: &[usize]| -> Option<Vec<i64>> {
        let words: Vec<&str> = text.split(separator).collect();
        let digits = |(word, width): (&&str, &usize)| {
            let plain = word.len() == *width && word.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| word.parse().ok()).flatten()
        };
        (words.len() <= widths.len()).then(|| words.iter().zip(widths).map(digits).collect()).flatten()
    };
    let Some(&[year, month, day]) = numbers(date, '-', &[4, 2, 2]).as_deref() else { return Err(wrong()) };
    let (hour, minute, second) = match numbers(clock, ':', &[2, 2, 2]).as_deref() {
        Some(&[hour, minute]) => (hour, minute, 0),
        Some(&[hour, minute, second]) => (hour, minute, second),
        _ => return Err(wrong()),
    };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let lengths = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let length = usize::try_from(month - 1).ok().and_then(|month| lengths.get(month));
    if !length.is_some_and(|length| (1..=*length).contains(&day)) || hour > 23 || minute > 59 || second > 59 {
        return Err(wrong());
    }
    // Days from 1970 to the first of January of the year, each fourth a day longer, but for most centuries.
    let before = year - 1;
    let years = 365 * (year - 1970) + (before / 4 - before / 100 + before / 400) - (1969 / 4 - 1969 / 100 + 1969 / 400);
    let days = years + lengths[..(month - 1) as usize].iter().sum::<i64>() + day - 1;
    Ok((((days * 24 + hour) * 60 + minute) * 60 + second) * 1000)
}

/// Now, in milliseconds since 1970, by the clock of the machine.
pub fn now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

/// A time as [`read`] takes it, in UTC to the second; `milliseconds` since 1970.
pub fn text(milliseconds: i64) -> String {
    let seconds = milliseconds.div_euclid(1000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Years that begin with March end with the day that some of them lack; 400 of them have 146,097 days.
    let (cycle, day) = ((days + 719_468).div_euclid(146_097), (days + 719_468).rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 { (year, month + 3) } else { (year + 1, month - 9) };
    let [hour, minute, second] = [second / 3600, second / 60 % 60, second % 60];
    format!("{:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z", 400 * cycle + year)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_counted_from_1970() {
        for (text, seconds) in [
            ("1970-01-01", 0),
            ("2000-03-01T00:00:01", 951_868_801),
            ("2026-11-28T14:03Z", 1_795_874_580),
            ("1969-12-31 23:59:59", -1),
            ("2024-02-29", 1_709_164_800),
        ] {
            assert_eq!(read(text), Ok(seconds * 1000), "{text}");
        }
        for text in
            ["", "2023-02-29", "2026-13-01", "2026-00-01", "2026-1-1", "2026-11-28T24:00", "28.11.2026", "T", "-1-1-1"]
        {
            assert!(read(text).unwrap_err().contains("2026-11-28T14:03"), "{text}");
        }
    }

    #[test]
    fn times_are_written_as_they_are_read() {
        // Every day of more than 400 years, at another time of day each.
        for day in -90_000..90_000_i64 {
            let time = (day * 86_400 + (day * 7_919).rem_euclid(86_400)) * 1000;
            assert_eq!(read(&text(time)), Ok(time), "{}", text(time));
        }
        assert_eq!(text(1_795_874_580_999), "2026-11-28T14:03:00Z");
        assert_eq!(text(-1), "1969-12-31T23:59:59Z");
        for far in [i64::MIN, i64::MAX] {
            assert!(text(far).ends_with('Z'), "{}", text(far));
        }
    }
}
