//! `/debug/pprof/`: CPU profiles of all cores, in the format of pprof (google/pprof, proto/profile.proto) and as a picture.
//!
//! | path | answer |
//! |---|---|
//! | `/debug/pprof/` | what there is |
//! | `/debug/pprof/profile?seconds=n` | a profile, gzip, for `go tool pprof` |
//! | `/debug/pprof/flamegraph?seconds=n` | a flame graph, SVG |
//! | `/debug/pprof/cmdline` | the command line |
//!
//! Profiles of a Go program's heap, locks and goroutines are not there.

use std::{
    collections::HashMap,
    io::Write,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use flate2::{Compression, write::GzEncoder};
use http::{HeaderValue, StatusCode, header};
use prost::Message;

use super::plain::{TEXT, error};
use crate::{
    frontend::{WebRequest, WebResponse},
    os::profile::{self, FREQUENCY_HZ, Profile, ProfileError},
};

const PREFIX: &str = "/debug/pprof/";
const SECONDS_DEFAULT: u64 = 30;
const SECONDS_MAX: u64 = 300;
const NANOSECONDS: u64 = 1_000_000_000;
const BINARY: &str = "application/octet-stream";
const SVG: &str = "image/svg+xml";

const INDEX: &str = "CPU profiles of ringd\n\n\
    /debug/pprof/profile?seconds=30     for go tool pprof\n\
    /debug/pprof/flamegraph?seconds=30  a picture, SVG\n\
    /debug/pprof/cmdline\n";

/// The page of this path; `None` if it is none of these.
pub(super) async fn page(request: &WebRequest) -> Option<WebResponse> {
    Some(match request.path.strip_prefix(PREFIX)? {
        "" => WebResponse::new(StatusCode::OK, TEXT, INDEX),
        "cmdline" => WebResponse::new(StatusCode::OK, TEXT, std::env::args().collect::<Vec<_>>().join("\0")),
        "profile" => answer(taken(request).await, BINARY),
        "flamegraph" => answer(profile::draw(time(request)).await, SVG),
        _ => error(StatusCode::NOT_FOUND, "Unknown profile"),
    })
}

async fn taken(request: &WebRequest) -> Result<Vec<u8>, ProfileError> {
    let time = time(request);
    let profile = profile::take(time).await?;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&encode(&profile, time).encode_to_vec())?;
    Ok(encoder.finish()?)
}

fn answer(profile: Result<Vec<u8>, ProfileError>, kind: &'static str) -> WebResponse {
    let mut response = match profile {
        Err(why) => return error(StatusCode::INTERNAL_SERVER_ERROR, &why.to_string()),
        Ok(bytes) => WebResponse::new(StatusCode::OK, kind, bytes),
    };
    if kind == BINARY {
        let name = HeaderValue::from_static("attachment; filename=\"profile\"");
        response.headers.insert(header::CONTENT_DISPOSITION, name);
    }
    response.headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn time(request: &WebRequest) -> Duration {
    let given = request.query.split('&').find_map(|pair| pair.strip_prefix("seconds="));
    let seconds = given.and_then(|text| text.parse().ok()).filter(|seconds| *seconds > 0);
    Duration::from_secs(seconds.unwrap_or(SECONDS_DEFAULT).min(SECONDS_MAX))
}

#[derive(Clone, PartialEq, Message)]
struct PprofProfile {
    #[prost(message, repeated, tag = "1")]
    sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    sample: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    location: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    function: Vec<PprofFunction>,
    #[prost(string, repeated, tag = "6")]
    string_table: Vec<String>,
    #[prost(int64, tag = "9")]
    time_nanos: i64,
    #[prost(int64, tag = "10")]
    duration_nanos: i64,
    #[prost(message, optional, tag = "11")]
    period_type: Option<ValueType>,
    #[prost(int64, tag = "12")]
    period: i64,
}

/// Both are indices of the string table, as all texts of this format.
#[derive(Clone, Copy, PartialEq, Message)]
struct ValueType {
    #[prost(int64, tag = "1")]
    kind: i64,
    #[prost(int64, tag = "2")]
    unit: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(uint64, repeated, tag = "1")]
    location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    value: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct Location {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(message, repeated, tag = "4")]
    line: Vec<Line>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Line {
    #[prost(uint64, tag = "1")]
    function_id: u64,
    #[prost(int64, tag = "2")]
    line: i64,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct PprofFunction {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "2")]
    name: i64,
    #[prost(int64, tag = "3")]
    system_name: i64,
    #[prost(int64, tag = "4")]
    filename: i64,
}

/// The texts of a profile, each once. The first one is empty.
#[derive(Default)]
struct Texts {
    table: Vec<String>,
    known: HashMap<String, i64>,
}

impl Texts {
    fn index(&mut self, text: &str) -> i64 {
        if let Some(index) = self.known.get(text) {
            return *index;
        }
        let index = self.table.len() as i64;
        self.table.push(text.to_owned());
        self.known.insert(text.to_owned(), index);
        index
    }
}

fn encode(profile: &Profile, time: Duration) -> PprofProfile {
    let mut texts = Texts::default();
    texts.index("");
    let count = ValueType { kind: texts.index("samples"), unit: texts.index("count") };
    let computing = ValueType { kind: texts.index("cpu"), unit: texts.index("nanoseconds") };
    let period = (NANOSECONDS / u64::from(FREQUENCY_HZ)) as i64;
    let (mut functions, mut locations, mut samples) = (Vec::new(), Vec::new(), Vec::new());
    let mut known = HashMap::new();
    for (stack, count) in &profile.stacks {
        let ids = stack.iter().map(|function| {
            *known.entry(function).or_insert_with(|| {
                let (id, name) = (functions.len() as u64 + 1, texts.index(&function.name));
                let filename = texts.index(&function.file);
                functions.push(PprofFunction { id, name, system_name: name, filename });
                locations.push(Location { id, line: vec![Line { function_id: id, line: i64::from(function.line) }] });
                id
            })
        });
        let location_id = ids.collect();
        samples.push(Sample { location_id, value: vec![*count as i64, *count as i64 * period] });
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(time);
    PprofProfile {
        sample_type: vec![count, computing],
        sample: samples,
        location: locations,
        function: functions,
        string_table: texts.table,
        time_nanos: i64::try_from(since.as_nanos()).unwrap_or(0),
        duration_nanos: i64::try_from(time.as_nanos()).unwrap_or(0),
        period_type: Some(computing),
        period,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::profile::Function;

    #[test]
    fn a_profile_names_each_function_once() {
        let function = |name: &str| Function { name: name.to_owned(), file: "a.rs".to_owned(), line: 7 };
        let mut profile = Profile::default();
        profile.stacks.insert(vec![function("leaf"), function("main")], 3);
        profile.stacks.insert(vec![function("main")], 2);
        let encoded = encode(&profile, Duration::from_secs(1));
        assert_eq!(encoded.function.len(), 2);
        assert_eq!(encoded.string_table, ["", "samples", "count", "cpu", "nanoseconds", "leaf", "a.rs", "main"]);
        let values: Vec<_> =
            encoded.sample.iter().map(|sample| (sample.location_id.clone(), sample.value[0])).collect();
        assert_eq!(values, [(vec![1, 2], 3), (vec![2], 2)]);
        assert_eq!(encoded.sample[0].value[1], 30_000_000);
    }
}
