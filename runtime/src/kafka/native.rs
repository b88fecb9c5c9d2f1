//! What librdkafka's admin interface has and rdkafka does not wrap: a request that is answered by an event.

#![allow(
    unsafe_code,
    reason = "librdkafka's own interface; who uses this has the pointers in one file each"
)]

use std::ffi::{CStr, c_char};
use std::ptr;
use std::time::Duration;

use rdkafka::bindings as native;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// A native object that is given back when it goes out of scope.
pub(super) struct Owned<T> {
    pub(super) object: *mut T,
    destroy: unsafe extern "C" fn(*mut T),
}

impl<T> Owned<T> {
    /// # Errors
    /// There is no object.
    pub(super) fn new(
        object: *mut T,
        destroy: unsafe extern "C" fn(*mut T),
    ) -> Result<Self, KafkaError> {
        if object.is_null() {
            return Err(KafkaError::AdminOp(RDKafkaErrorCode::Fail));
        }
        Ok(Self { object, destroy })
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: `new` took an object that is not null together with its own destructor, and nobody else frees it.
        unsafe { (self.destroy)(self.object) }
    }
}

/// Sends a request, and waits for its answer, for `timeout` at the most. `send` is given the options and the queue.
///
/// # Safety
/// `rk` is a client that lives for the whole call, and `send` begins one request of this kind, which is answered on the queue.
///
/// # Errors
/// The brokers do not answer in time, or refuse.
pub(super) unsafe fn ask(
    rk: *mut native::rd_kafka_t,
    kind: native::rd_kafka_admin_op_t,
    timeout: Duration,
    send: impl FnOnce(*const native::rd_kafka_AdminOptions_t, *mut native::rd_kafka_queue_t),
) -> Result<Owned<native::rd_kafka_event_t>, KafkaError> {
    let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the caller's promise; options, queue and event live until they are dropped.
    unsafe {
        let options = Owned::new(
            native::rd_kafka_AdminOptions_new(rk, kind),
            native::rd_kafka_AdminOptions_destroy,
        )?;
        check(native::rd_kafka_AdminOptions_set_request_timeout(
            options.object,
            timeout_ms,
            ptr::null_mut(),
            0,
        ))?;
        let queue = Owned::new(
            native::rd_kafka_queue_new(rk),
            native::rd_kafka_queue_destroy,
        )?;
        send(options.object, queue.object);
        let event = native::rd_kafka_queue_poll(queue.object, timeout_ms);
        if event.is_null() {
            return Err(KafkaError::AdminOp(RDKafkaErrorCode::OperationTimedOut));
        }
        let event = Owned::new(event, native::rd_kafka_event_destroy)?;
        check(native::rd_kafka_event_error(event.object))?;
        Ok(event)
    }
}

fn check(code: native::rd_kafka_resp_err_t) -> Result<(), KafkaError> {
    match RDKafkaErrorCode::from(code) {
        RDKafkaErrorCode::NoError => Ok(()),
        code => Err(KafkaError::AdminOp(code)),
    }
}

/// The code of a part's own error; none of null.
///
/// # Safety
/// `error` is null or an error that lives for the whole call.
pub(super) unsafe fn code_of(error: *const native::rd_kafka_error_t) -> RDKafkaErrorCode {
    if error.is_null() {
        return RDKafkaErrorCode::NoError;
    }
    // SAFETY: the caller's promise.
    RDKafkaErrorCode::from(unsafe { native::rd_kafka_error_code(error) })
}

/// # Safety
/// `text` is null or a string that ends with a zero byte and lives for the whole call.
pub(super) unsafe fn text(text: *const c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: the caller's promise.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().ok().map(str::to_owned)
}
