//! Figures with names, and medians of them over several runs.

use crate::process::median;

/// What a bench returns; any error ends it.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;
/// What one run found.
pub type Figures = Vec<(String, f64)>;

/// One of them.
pub fn figure(name: impl Into<String>, value: f64) -> (String, f64) {
    (name.into(), value)
}

/// A variable of the environment as a number.
pub fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// What the command line asks for: all if it names nothing. Flags are cargo's.
pub fn wanted() -> impl Fn(&str) -> bool {
    let names: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    move |name| names.is_empty() || names.iter().any(|wanted| wanted == name)
}

/// Runs a bench several times and prints the medians.
#[expect(clippy::print_stdout, reason = "a bench prints its figures")]
pub fn report(runs: usize, bench: impl Fn() -> Result<Figures>) -> Result<()> {
    let mut all: Vec<(String, Vec<f64>)> = Vec::new();
    for _ in 0..runs {
        for (name, value) in bench()? {
            match all.iter_mut().find(|(known, _)| *known == name) {
                Some((_, values)) => values.push(value),
                None => all.push((name, vec![value])),
            }
        }
    }
    for (name, values) in all {
        println!("{name:<72} {:>12.3}", median(values));
    }
    Ok(())
}
