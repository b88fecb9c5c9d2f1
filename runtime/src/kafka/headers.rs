//! The headers of a record, whatever bytes their names are. rdkafka panics at a name that is not UTF-8.

#![allow(
    unsafe_code,
    reason = "rdkafka's own way to read a header panics; every pointer stays in this file"
)]

use std::borrow::Cow;
use std::ffi::CStr;
use std::ptr;
use std::slice;

use rdkafka::bindings as native;
use rdkafka::message::{BorrowedHeaders, Message, OwnedHeaders};

/// A message whose headers can be read.
pub trait Headed: Message<Headers: NativeHeaders> {}

impl<M: Message<Headers: NativeHeaders>> Headed for M {}

/// Headers as librdkafka has them.
pub trait NativeHeaders {
    /// Live as long as this.
    fn native(&self) -> *const native::rd_kafka_headers_t;
}

impl NativeHeaders for BorrowedHeaders {
    fn native(&self) -> *const native::rd_kafka_headers_t {
        // rdkafka makes the reference of this pointer.
        ptr::from_ref(self).cast()
    }
}

impl NativeHeaders for OwnedHeaders {
    fn native(&self) -> *const native::rd_kafka_headers_t {
        self.as_borrowed().native()
    }
}

/// The headers in their order, each with its name and its value; what of a name is not UTF-8 is replaced.
pub fn headers(message: &impl Headed) -> impl Iterator<Item = (Cow<'_, str>, Option<&[u8]>)> {
    let headers = message.headers().into_iter();
    headers.flat_map(|headers| (0..).map_while(|at| header(headers, at)))
}

fn header<H: NativeHeaders>(headers: &H, at: usize) -> Option<(Cow<'_, str>, Option<&[u8]>)> {
    let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
    // SAFETY: the headers live as long as the borrow; what librdkafka points to then lives as long as they do.
    unsafe {
        let found = native::rd_kafka_header_get_all(
            headers.native(),
            at,
            &raw mut name,
            &raw mut value,
            &raw mut size,
        );
        if found != native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR || name.is_null() {
            return None;
        }
        let value = (!value.is_null()).then(|| slice::from_raw_parts(value.cast(), size));
        Some((CStr::from_ptr(name).to_string_lossy(), value))
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::Timestamp;
    use rdkafka::message::{Header, OwnedMessage};

    use super::*;

    #[test]
    fn a_name_may_be_any_bytes() {
        let owned = OwnedHeaders::new()
            .insert(Header {
                key: "a",
                value: Some("1"),
            })
            .insert(Header::<&str> {
                key: "none",
                value: None,
            });
        // SAFETY: the headers are alive, name and value have their sizes.
        unsafe {
            let headers = owned.native().cast_mut();
            native::rd_kafka_header_add(headers, c"caf\xe9".as_ptr(), 4, c"x".as_ptr().cast(), 1);
        }
        let message = |headers| {
            OwnedMessage::new(
                None,
                None,
                "t".to_owned(),
                Timestamp::NotAvailable,
                0,
                0,
                headers,
            )
        };
        let read = message(Some(owned));
        let all: Vec<_> = headers(&read).collect();
        let expected: [(Cow<'_, str>, Option<&[u8]>); 3] = [
            ("a".into(), Some(b"1")),
            ("none".into(), None),
            ("caf\u{fffd}".into(), Some(b"x")),
        ];
        assert_eq!(all, expected);
        assert_eq!(headers(&message(None)).count(), 0);
    }
}
