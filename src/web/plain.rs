//! Plain answers that every page shares: errors, and the refusal of methods other than GET.

use http::{HeaderValue, Method, StatusCode, header};

use crate::frontend::{WebRequest, WebResponse};

pub(super) const TEXT: &str = "text/plain; charset=utf-8";

/// A page that says what is wrong, as Go's `http.Error` makes it.
pub(super) fn error(status: StatusCode, text: &str) -> WebResponse {
    let mut response = WebResponse::new(status, TEXT, format!("{text}\n"));
    response.headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Refuses anything but GET, as etcd words it.
pub(super) fn get(request: &WebRequest) -> Option<WebResponse> {
    allow(request, &Method::GET)
}

/// Refuses any other method, as etcd words it.
pub(super) fn allow(request: &WebRequest, method: &Method) -> Option<WebResponse> {
    if request.method == *method {
        return None;
    }
    let mut response = error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    let allowed = HeaderValue::from_str(method.as_str()).expect("a method is a token");
    response.headers.insert(header::ALLOW, allowed);
    Some(response)
}
