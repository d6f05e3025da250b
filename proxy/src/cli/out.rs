//! Data for stdout. A reader that has seen enough (`| head`) is no reason to panic.

use std::fmt::Arguments;
use std::io::Write;

/// One line. What nobody reads any more is dropped.
pub fn line(text: Arguments<'_>) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Text that ends its lines itself.
pub fn text(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// `println!` that never panics.
macro_rules! tell {
    ($($text:tt)*) => { $crate::cli::out::line(format_args!($($text)*)) };
}
pub(crate) use tell;
