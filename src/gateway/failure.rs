//! Refusals and failures as the gateway writes them.
//!
//! | where | body |
//! |---|---|
//! | instead of a unary answer | `{"code":5,"message":"..."}`, and the HTTP status of the code |
//! | in a stream | `{"error":{"code":5,"message":"..."}}` and a newline; the HTTP status if it is the first document |
//!
//! A stream's error has three members more, `grpc_code`, `http_code` and `http_status`, as etcd 3.5 wrote them: clients in Lua read
//! them and fail on etcd 3.6.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};

use super::inner_json::quoted;
use crate::{
    frontend::WebResponse,
    rpc::{Code, Status},
};

const JSON: &str = "application/json";
/// The gRPC answer's own type, which grpc-gateway passes on.
const GRPC_TYPE: (HeaderName, &str) = (HeaderName::from_static("grpc-metadata-content-type"), "application/grpc");

/// The HTTP status of a gRPC code.
pub(super) fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        // nginx's number for a client that has closed its request; it is not registered.
        Code::Canceled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// A response of JSON.
pub(super) fn json_response(status: StatusCode, body: impl Into<Bytes>) -> WebResponse {
    WebResponse::new(status, JSON, body)
}

/// The same, of a call that was made.
pub(super) fn answered(status: StatusCode, body: impl Into<Bytes>) -> WebResponse {
    let mut response = json_response(status, body);
    response.headers.insert(GRPC_TYPE.0, HeaderValue::from_static(GRPC_TYPE.1));
    response
}

/// The answer instead of a unary one.
pub(super) fn refusal(status: &Status) -> WebResponse {
    let mut response = json_response(http_status(status.code), members(status));
    if status.code == Code::Unauthenticated
        && let Ok(message) = HeaderValue::from_str(&status.message)
    {
        response.headers.insert(header::WWW_AUTHENTICATE, message);
    }
    response
}

pub(super) fn members(status: &Status) -> String {
    let code = status.code as u8;
    match &*status.message {
        "" => format!(r#"{{"code":{code}}}"#),
        message => format!(r#"{{"code":{code},"message":{}}}"#, quoted(message)),
    }
}

/// The last document of a stream, with its newline.
pub(super) fn stream_error(status: &Status) -> String {
    let (code, http) = (status.code as u8, http_status(status.code));
    format!(
        "{{\"error\":{{\"code\":{code},\"message\":{},\"grpc_code\":{code},\"http_code\":{},\"http_status\":{}}}}}\n",
        quoted(&status.message),
        http.as_u16(),
        quoted(http.canonical_reason().unwrap_or_default()),
    )
}

/// In the words of grpc-gateway's router.
pub(super) fn routing_error(status: StatusCode) -> Status {
    match status {
        StatusCode::METHOD_NOT_ALLOWED => Status::new(Code::Unimplemented, "Method Not Allowed"),
        _ => Status::new(Code::NotFound, "Not Found"),
    }
}
