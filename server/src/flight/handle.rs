//! What a ticket and the handle of a prepared statement say: the statement, its database, its values.
//!
//! The server keeps nothing, so nothing has to be bounded, grows old or is lost at a restart. Clients give handles back as
//! they got them; what is not ours is refused, and what is made up says no more than a statement could.

use arrow_flight::FlightData;
use bytes::Bytes;
use prost::Message;
use tonic::Status;

/// What every handle of this server begins with.
const MARK: &str = "marigram/1";

/// A statement of a client.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Handle {
    #[prost(string, tag = "1")]
    mark: String,
    #[prost(string, tag = "2")]
    pub(super) database: String,
    #[prost(string, tag = "3")]
    pub(super) sql: String,
    /// Of a ticket: what names it to who wants to stop it; 0: a prepared statement.
    #[prost(fixed64, tag = "4")]
    pub(super) number: u64,
    /// The values as the client sent them; empty: none are bound.
    #[prost(message, repeated, tag = "5")]
    pub(super) values: Vec<FlightData>,
}

impl Handle {
    pub(super) fn new(database: &str, sql: &str) -> Self {
        Self {
            mark: MARK.to_owned(),
            database: database.to_owned(),
            sql: sql.to_owned(),
            number: 0,
            values: Vec::new(),
        }
    }

    pub(super) fn read(bytes: &[u8]) -> Result<Self, Status> {
        let read = Self::decode(bytes).ok().filter(|handle| handle.mark == MARK);
        read.ok_or_else(|| Status::invalid_argument("the ticket or handle is none of this server's"))
    }

    pub(super) fn bytes(&self) -> Bytes {
        self.encode_to_vec().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_read_as_it_was_written_and_nothing_else_is_one() {
        let mut handle = Handle::new("main", "SELECT $1");
        handle.number = 7;
        handle.values = vec![FlightData { data_body: Bytes::from_static(b"rows"), ..FlightData::default() }];
        let bytes = handle.bytes();
        assert_eq!(Handle::read(&bytes).unwrap(), handle);
        for end in 0..bytes.len() {
            let cut = Handle::read(bytes.get(..end).unwrap_or_default());
            assert!(cut.is_err() || cut.unwrap() != handle, "{end} bytes");
        }
        for other in [&b""[..], b"x", b"{\"database\":\"main\"}", &[0xff; 64]] {
            assert_eq!(Handle::read(other).unwrap_err().code(), tonic::Code::InvalidArgument);
        }
    }
}
