//! A client of PostgreSQL's protocol that shows each frame: written apart from the server's code, by the protocol's page.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A message of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: char,
    pub body: Vec<u8>,
}

/// A connection.
pub struct Client {
    pub stream: TcpStream,
    pub settings: HashMap<String, String>,
    pub key: [u8; 8],
    /// Of the last `ReadyForQuery`.
    pub status: char,
    pub notices: Vec<HashMap<char, String>>,
}

/// What a text came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reply {
    pub columns: Vec<(String, u32)>,
    pub rows: Vec<Vec<Option<String>>>,
    pub tags: Vec<String>,
    pub error: Option<HashMap<char, String>>,
}

impl Reply {
    #[track_caller]
    pub fn sqlstate(&self) -> &str {
        let error = self.error.as_ref().unwrap_or_else(|| panic!("no error: {self:?}"));
        &error[&'C']
    }
}

fn text(bytes: &mut &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).expect("a text has an end");
    let text = String::from_utf8(bytes[..end].to_vec()).expect("UTF-8");
    *bytes = &bytes[end + 1..];
    text
}

fn i16_of(bytes: &mut &[u8]) -> i16 {
    let (head, rest) = bytes.split_at(2);
    *bytes = rest;
    i16::from_be_bytes(head.try_into().unwrap())
}

fn i32_of(bytes: &mut &[u8]) -> i32 {
    let (head, rest) = bytes.split_at(4);
    *bytes = rest;
    i32::from_be_bytes(head.try_into().unwrap())
}

pub fn fields(body: &[u8]) -> HashMap<char, String> {
    let (mut rest, mut fields) = (body, HashMap::new());
    while rest[0] != 0 {
        let letter = char::from(rest[0]);
        rest = &rest[1..];
        fields.insert(letter, text(&mut rest));
    }
    fields
}

/// The values of a row.
pub fn values(body: &[u8]) -> Vec<Option<Vec<u8>>> {
    let mut rest = body;
    let count = i16_of(&mut rest);
    let values = (0..count).map(|_| match i32_of(&mut rest) {
        -1 => None,
        length => {
            let (value, after) = rest.split_at(usize::try_from(length).unwrap());
            rest = after;
            Some(value.to_vec())
        }
    });
    let values = values.collect();
    assert!(rest.is_empty(), "a row is longer than its values");
    values
}

/// Name, type and format of the columns of a row.
pub fn columns(body: &[u8]) -> Vec<(String, u32, i16)> {
    let mut rest = body;
    let count = i16_of(&mut rest);
    let columns = (0..count).map(|_| {
        let name = text(&mut rest);
        rest = &rest[6..];
        let oid = i32_of(&mut rest) as u32;
        rest = &rest[6..];
        (name, oid, i16_of(&mut rest))
    });
    columns.collect()
}

/// A text with its end.
pub fn cstr(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

impl Client {
    pub fn open(address: SocketAddr) -> TcpStream {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    /// The first message: a length, a number, settings.
    pub fn opening(version: u32, settings: &[(&str, &str)]) -> Vec<u8> {
        let mut body = version.to_be_bytes().to_vec();
        for (name, value) in settings {
            body.extend(cstr(name));
            body.extend(cstr(value));
        }
        body.push(0);
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        [&length[..], &body].concat()
    }

    pub fn connect(address: SocketAddr) -> Self {
        Self::connect_with(address, &[("user", "me")]).unwrap()
    }

    /// The error if the server does not let it in.
    pub fn connect_with(address: SocketAddr, settings: &[(&str, &str)]) -> Result<Self, HashMap<char, String>> {
        let mut stream = Self::open(address);
        stream.write_all(&Self::opening(196_608, settings)).unwrap();
        let (settings, notices) = (HashMap::new(), Vec::new());
        let mut client = Self { stream, settings, key: [0; 8], status: ' ', notices };
        loop {
            let frame = client.receive().expect("an answer");
            match frame.kind {
                'R' => assert_eq!(frame.body, [0; 4], "no password is asked for"),
                'K' => client.key = frame.body.try_into().unwrap(),
                'E' => return Err(fields(&frame.body)),
                'Z' => return Ok(client),
                other => panic!("{other}: {:?}", frame.body),
            }
        }
    }

    pub fn send(&mut self, kind: char, body: &[u8]) {
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        let frame = [&[kind as u8][..], &length, body].concat();
        self.stream.write_all(&frame).unwrap();
    }

    /// The next message but notices and settings; `None`: the server has closed.
    pub fn receive(&mut self) -> Option<Frame> {
        loop {
            let mut head = [0; 5];
            self.stream.read_exact(&mut head).ok()?;
            let length = u32::from_be_bytes(head[1..].try_into().unwrap()) as usize;
            let mut body = vec![0; length - 4];
            self.stream.read_exact(&mut body).ok()?;
            match char::from(head[0]) {
                'S' => {
                    let mut rest = body.as_slice();
                    let name = text(&mut rest);
                    self.settings.insert(name, text(&mut rest));
                }
                'N' => self.notices.push(fields(&body)),
                kind => {
                    if kind == 'Z' {
                        self.status = char::from(body[0]);
                    }
                    return Some(Frame { kind, body });
                }
            }
        }
    }

    /// All messages up to `ReadyForQuery`.
    #[track_caller]
    pub fn until_ready(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        loop {
            let frame = self.receive().expect("the server is there");
            if frame.kind == 'Z' {
                return frames;
            }
            frames.push(frame);
        }
    }

    /// The kinds of all messages up to `ReadyForQuery`.
    pub fn kinds(&mut self) -> String {
        self.until_ready().iter().map(|frame| frame.kind).collect()
    }

    /// A text of the simple protocol.
    #[track_caller]
    pub fn ask(&mut self, sql: &str) -> Reply {
        self.send('Q', &cstr(sql));
        let mut reply = Reply::default();
        for frame in self.until_ready() {
            match frame.kind {
                'T' => reply.columns = columns(&frame.body).into_iter().map(|(name, oid, _)| (name, oid)).collect(),
                'D' => {
                    let text = |value: Option<Vec<u8>>| value.map(|value| String::from_utf8(value).expect("UTF-8"));
                    reply.rows.push(values(&frame.body).into_iter().map(text).collect());
                }
                'C' => reply.tags.push(text(&mut frame.body.as_slice())),
                'I' => reply.tags.push("EMPTY".to_owned()),
                'E' => reply.error = Some(fields(&frame.body)),
                other => panic!("{sql}: {other}"),
            }
        }
        reply
    }

    /// The rows as texts, NULL as `-`; panics on an error.
    #[track_caller]
    pub fn rows(&mut self, sql: &str) -> Vec<String> {
        let reply = self.ask(sql);
        assert_eq!(reply.error, None, "{sql}");
        let row = |row: &Vec<Option<String>>| {
            row.iter().map(|value| value.as_deref().unwrap_or("-")).collect::<Vec<_>>().join("|")
        };
        reply.rows.iter().map(row).collect()
    }

    /// The tags; panics on an error.
    #[track_caller]
    pub fn done(&mut self, sql: &str) -> Vec<String> {
        let reply = self.ask(sql);
        assert_eq!(reply.error, None, "{sql}");
        reply.tags
    }

    pub fn parse(&mut self, name: &str, sql: &str, types: &[u32]) {
        let mut body = [cstr(name), cstr(sql)].concat();
        body.extend(u16::try_from(types.len()).unwrap().to_be_bytes());
        types.iter().for_each(|oid| body.extend(oid.to_be_bytes()));
        self.send('P', &body);
    }

    /// `formats`: of all values and of all columns.
    pub fn bind(&mut self, portal: &str, statement: &str, formats: [i16; 2], params: &[Option<&[u8]>]) {
        let mut body = [cstr(portal), cstr(statement)].concat();
        body.extend(1_u16.to_be_bytes());
        body.extend(formats[0].to_be_bytes());
        body.extend(u16::try_from(params.len()).unwrap().to_be_bytes());
        for value in params {
            match value {
                None => body.extend((-1_i32).to_be_bytes()),
                Some(value) => {
                    body.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
                    body.extend(*value);
                }
            }
        }
        body.extend(1_u16.to_be_bytes());
        body.extend(formats[1].to_be_bytes());
        self.send('B', &body);
    }

    pub fn describe(&mut self, kind: char, name: &str) {
        self.send('D', &[vec![kind as u8], cstr(name)].concat());
    }

    pub fn execute(&mut self, portal: &str, rows_max: i32) {
        self.send('E', &[cstr(portal), rows_max.to_be_bytes().to_vec()].concat());
    }

    pub fn sync(&mut self) {
        self.send('S', &[]);
    }

    /// Asks from another connection to break off what this one does.
    pub fn cancel(address: SocketAddr, key: [u8; 8]) {
        let mut stream = Self::open(address);
        stream.write_all(&[&16_u32.to_be_bytes()[..], &80_877_102_u32.to_be_bytes(), &key].concat()).unwrap();
        // The server closes once it has asked.
        let _ = stream.read(&mut [0; 1]);
    }
}
