//! A whole server in this process, asked over HTTP: each documented status, header and body.

mod http {
    pub mod frame;
    pub mod support;
}
