//! Parameters of a request: query string and form, names matched exactly, the first of a name counts. Which database they
//! mean is said here, once for writes, deletes and InfluxQL.

use marigram_query::DEFAULT_DATABASE;

use crate::status::Refusal;

/// The name that a database's own retention policy has.
const OWN_POLICY: &str = "autogen";

/// Decoded pairs in the order they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Params(Vec<(String, String)>);

impl Params {
    /// From the part of a URL after `?`, or from a form body: the same syntax. What is not UTF-8 once decoded is refused:
    /// guessing what was meant would name another database, or ask something else.
    pub(crate) fn parse(text: &str) -> Result<Self, Refusal> {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let not_text = || Refusal::invalid(format!("parameter {name} is not valid UTF-8"));
            percent_decoded(name).zip(percent_decoded(value)).ok_or_else(not_text)
        });
        pairs.collect::<Result<_, _>>().map(Self)
    }

    /// From the URL of a request.
    pub(crate) fn of(uri: &axum::http::Uri) -> Result<Self, Refusal> {
        Self::parse(uri.query().unwrap_or_default())
    }

    /// The first value of a name, if it is not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(found, value)| found == name && !value.is_empty());
        found.map(|(_, value)| value.as_str())
    }

    /// The database that the first of these names says, in its policy: `bucket=a/weekly` and `db=a&rp=weekly` are `a/weekly`,
    /// `a/autogen` is `a`. `None`: none of them is there.
    pub(crate) fn database(&self, names: &[&str]) -> Option<String> {
        names.iter().find_map(|name| self.get(name)).map(|named| self.in_policy(named))
    }

    /// The same, or the default database.
    pub(crate) fn database_or_default(&self, names: &[&str]) -> String {
        self.database(names).unwrap_or_else(|| self.in_policy(DEFAULT_DATABASE))
    }

    fn in_policy(&self, named: &str) -> String {
        let named = named.strip_suffix(OWN_POLICY).and_then(|rest| rest.strip_suffix('/')).unwrap_or(named);
        match self.get("rp") {
            None | Some(OWN_POLICY) => named.to_owned(),
            Some(policy) => format!("{named}/{policy}"),
        }
    }

    /// A switch; absent is `default`.
    pub(crate) fn switch(&self, name: &str, default: bool) -> Result<bool, Refusal> {
        match self.get(name) {
            None => Ok(default),
            Some("true" | "1" | "t" | "on") => Ok(true),
            Some("false" | "0" | "f" | "off") => Ok(false),
            Some(other) => Err(Refusal::invalid(format!("parameter {name} is neither true nor false: {other:?}"))),
        }
    }

    /// Adds pairs that count only where a name is not there yet.
    pub(crate) fn append(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    pub(crate) fn push(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.push((name.into(), value.into()));
    }
}

/// `+` is a blank, `%XX` a byte; what is no escape stays. `None` for bytes that are not UTF-8.
fn percent_decoded(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escaped = match (first, after) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        match escaped {
            Some(byte) => {
                decoded.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                decoded.push(if first == b'+' { b' ' } else { first });
                rest = after;
            }
        }
    }
    String::from_utf8(decoded).ok()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_the_first_counts() {
        let params = Params::parse("db=my%20db&q=a%2Bb+c&db=other&flag&bad=%zz%4&u=%C3%BC&empty=&empty=x").unwrap();
        assert_eq!(params.get("db"), Some("my db"));
        assert_eq!(params.get("q"), Some("a+b c"));
        assert_eq!(params.get("flag"), None);
        assert_eq!(params.get("bad"), Some("%zz%4"));
        assert_eq!(params.get("u"), Some("ü"));
        assert_eq!(params.get("empty"), Some("x"));
        for text in ["db=%ff", "db=a&q=%C3", "%fe=x"] {
            let refused = Params::parse(text).unwrap_err();
            assert_eq!(refused.status.as_u16(), 400, "{text}");
            assert!(refused.message.ends_with("is not valid UTF-8"), "{}", refused.message);
        }
    }

    #[test]
    fn a_switch_is_true_false_or_an_error() {
        let params = Params::parse("a=true&b=0&c=maybe").unwrap();
        assert_eq!(params.switch("a", false), Ok(true));
        assert_eq!(params.switch("b", true), Ok(false));
        assert_eq!(params.switch("none", true), Ok(true));
        assert_eq!(params.switch("c", true).unwrap_err().status.as_u16(), 400);
    }
}
