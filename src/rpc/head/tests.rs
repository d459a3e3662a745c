use super::*;

type Pairs<'a> = &'a [(&'a str, &'a str)];

const POST: (&str, &str) = (":method", "POST");
const PATH: (&str, &str) = (":path", "/a.KV/Range");
const GRPC: (&str, &str) = ("content-type", "application/grpc");

/// A head with these fields, and a host unless they have one.
fn head(pairs: Pairs<'_>) -> Head {
    let is_host = |name: &str| [":authority", "host"].contains(&name);
    let host = [("host", "localhost")];
    let host = if pairs.iter().any(|(name, _)| is_host(name)) { &[][..] } else { &host };
    bare(&[pairs, host].concat())
}

fn bare(pairs: Pairs<'_>) -> Head {
    let mut fields = Fields::default();
    pairs.iter().for_each(|(name, value)| fields.add(name.as_bytes(), value.as_bytes()));
    Head::new(fields, &Rc::default())
}

fn accepted(pairs: Pairs<'_>) -> Accepted {
    head(pairs).take_outcome().unwrap()
}

/// HTTP status, gRPC code and text.
fn aborted(pairs: Pairs<'_>) -> (u16, Code, String) {
    match head(pairs).take_outcome() {
        Err(Rejected::Abort(abort) | Rejected::Foreign(abort)) => {
            (abort.http.as_u16(), abort.status.code, abort.status.message.into_owned())
        }
        other => panic!("{other:?}"),
    }
}

fn is_reset(pairs: Pairs<'_>) -> bool {
    matches!(head(pairs).outcome, Err(Rejected::Reset(Reason::PROTOCOL_ERROR)))
}

impl Head {
    fn take_outcome(mut self) -> Result<Accepted, Rejected> {
        mem::replace(&mut self.outcome, Err(Rejected::Reset(Reason::NO_ERROR)))
    }
}

#[test]
fn authorities_schemes_and_paths_are_any_text() {
    for authority in ["", "localhost:2379", "#initially=[http://a:1;http://b:2]", "a/b", "a,b c", "käse", "%2Ftmp%2Fx"]
    {
        accepted(&[POST, PATH, (":authority", authority), GRPC]);
    }
    for path in ["", "foo", "*", "/", "/a b?x#y"] {
        assert_eq!(*accepted(&[POST, (":path", path), GRPC]).path, *path.as_bytes());
    }
    accepted(&[POST, GRPC]);
    accepted(&[POST, PATH, (":scheme", "no scheme"), (":protocol", "x"), GRPC]);
    accepted(&[POST, PATH, GRPC, ("te", "gzip"), ("transfer-encoding", "chunked"), ("content-length", "x")]);
}

#[test]
fn what_http2_forbids_resets_the_stream() {
    for (extra, what) in [
        ((":method", "POST"), "twice"),
        ((":unknown", "x"), "unknown"),
        ((":", "x"), "unknown, too"),
        ((":status", "200"), "of a response"),
        (("X-Upper", "x"), "upper case"),
        (("", "x"), "no name"),
        (("a b", "x"), "a space in a name"),
        (("x", "a\nb"), "a line break in a value"),
        (("x", "\u{7f}"), "a control character in a value"),
        (("connection", "close"), "of a connection"),
    ] {
        assert!(is_reset(&[POST, PATH, extra, GRPC]), "{what}");
    }
    assert!(is_reset(&[POST, GRPC, PATH]), "a late pseudo-header");
    accepted(&[POST, PATH, GRPC, ("x!#$%&'*+-.^_`|~9", "\t \u{80}")]);
}

#[test]
fn content_types() {
    for (given, answer) in [
        ("application/grpc", Some("application/grpc")),
        ("application/grpc+proto", Some("application/grpc+proto")),
        ("application/grpc+", Some("application/grpc")),
        ("application/grpc;charset", Some("application/grpc+charset")),
        ("application/grpcx", None),
        ("application/json", None),
    ] {
        let pairs = [POST, PATH, ("content-type", given)];
        match answer {
            Some(answer) => assert_eq!(accepted(&pairs).form.content_type, answer),
            None => {
                let text = format!("invalid gRPC request content-type {given:?}");
                assert_eq!(aborted(&pairs), (415, Code::InvalidArgument, text));
            }
        }
    }
    // One of several is enough.
    accepted(&[POST, PATH, GRPC, ("content-type", "text/plain")]);
    let form =
        accepted(&[POST, PATH, ("content-type", "text/plain"), ("content-type", "application/grpc+a"), GRPC]).form;
    assert_eq!(form.content_type, "application/grpc");
}

#[test]
fn the_first_fault_in_the_order_of_grpc_go_counts() {
    let (host, plain, time) = (("host", "a"), ("content-type", "text/plain"), ("grpc-timeout", "5x"));
    let get = (":method", "GET");
    let text = "num values of :authority: 0, num values of host: 2, both must only have 1 value as per HTTP/2 spec";
    assert_eq!(aborted(&[get, host, host, plain, time]), (400, Code::Internal, text.to_owned()));
    assert_eq!(aborted(&[get, host, plain, time]).0, 415);
    let text = "malformed grpc-timeout: transport: timeout unit is not recognized: \"5x\"";
    assert_eq!(aborted(&[get, host, GRPC, time]), (400, Code::Internal, text.to_owned()));
    let text = "malformed binary metadata \"!\" in header \"x-bin\": illegal base64 data at input byte 0";
    assert_eq!(aborted(&[get, time, GRPC, ("x-bin", "!")]), (400, Code::Internal, text.to_owned()));
    let text = "Received a HEADERS frame with :method \"GET\" which should be POST";
    assert_eq!(aborted(&[get, GRPC]), (405, Code::Internal, text.to_owned()));
    let Err(Rejected::Abort(abort)) = bare(&[get, GRPC]).take_outcome() else {
        panic!("a request to nobody is refused");
    };
    assert_eq!((abort.http.as_u16(), &*abort.status.message), (400, "no host or :authority header present"));
    assert_eq!(aborted(&[GRPC]).2, "Received a HEADERS frame with :method \"\" which should be POST");
    let Err(Rejected::Abort(abort)) = head(&[get, ("content-type", "application/grpc+proto")]).take_outcome() else {
        panic!("a GET is refused");
    };
    assert_eq!(abort.content_type, "application/grpc+proto");
}

#[test]
fn encodings() {
    let of = |name| accepted(&[POST, PATH, GRPC, ("grpc-encoding", "gzip"), ("grpc-encoding", name)]);
    assert_eq!(of("gzip").form.encoding, Encoding::Gzip);
    assert_eq!(of("identity").form.encoding, Encoding::Identity);
    assert_eq!(of("").form.encoding, Encoding::Identity);
    assert_eq!(of("snappy").encoding.unwrap_err().code, Code::Unimplemented);
}

#[test]
fn metadata_is_found_by_its_name() {
    let head = head(&[POST, PATH, GRPC, ("token", "a"), ("token", "b"), ("x-bin", "AAE=")]);
    assert!(head.outcome.is_ok());
    assert_eq!(head.field(b"token"), Some(&b"a"[..]));
    assert_eq!(head.field(b"x-bin"), Some(&b"AAE="[..]));
    assert_eq!(head.field(b"toke"), None);
}

#[test]
fn heads_are_bounded_each_and_together() {
    let held = Rc::default();
    let with = |size: usize| {
        let mut fields = Fields::default();
        for (name, value) in [POST, PATH, ("host", "a"), GRPC] {
            fields.add(name.as_bytes(), value.as_bytes());
        }
        fields.add(b"x", &vec![b'v'; size]);
        Head::new(fields, &held)
    };
    let code = |head: &Head| match &head.outcome {
        Ok(_) => Code::Ok,
        Err(Rejected::Abort(abort) | Rejected::Foreign(abort)) => abort.status.code,
        Err(Rejected::Reset(_)) => Code::Internal,
    };
    assert_eq!(code(&with(200 * 1024)), Code::Ok);
    let large = with(HEADER_LIST_BYTES_MAX);
    assert_eq!(code(&large), Code::ResourceExhausted);
    assert!(large.held < 1000);
    let mut heads: Vec<Head> = (0..).map(|_| with(900_000)).take_while(|head| head.outcome.is_ok()).take(100).collect();
    assert!((10..100).contains(&heads.len()));
    assert!(held.get() <= HEADER_LISTS_PER_CONNECTION_BYTES_MAX + large.held);
    assert_eq!(code(&with(900_000)), Code::ResourceExhausted);
    heads.pop();
    assert_eq!(code(&with(900_000)), Code::Ok);
    drop((heads, large));
    assert_eq!(held.get(), 0);
}

#[test]
fn timeouts() {
    assert_eq!(parse_timeout(b"5S"), Ok(Duration::from_secs(5)));
    assert_eq!(parse_timeout(b"99999999H"), Ok(Duration::from_secs(99_999_999 * 3600)));
    assert_eq!(parse_timeout(b"12n"), Ok(Duration::from_nanos(12)));
    for (value, text) in [
        ("S", "transport: timeout string is too short: \"S\""),
        ("123456789S", "transport: timeout string is too long: \"123456789S\""),
        ("5x", "transport: timeout unit is not recognized: \"5x\""),
        ("-5S", "strconv.ParseUint: parsing \"-5\": invalid syntax"),
    ] {
        assert_eq!(parse_timeout(value.as_bytes()), Err(text.to_owned()));
    }
}

#[test]
fn base64_is_judged_like_go_does() {
    // Recorded from Go's `encoding/base64`, StdEncoding for whole quanta and RawStdEncoding for others.
    for (value, at) in [
        ("", None),
        ("A", Some(0)),
        ("AA", None),
        ("AAF", None),
        ("AAF=", None),
        ("AB==", None),
        ("AA==", None),
        ("AAAAA", Some(4)),
        ("?!", Some(0)),
        ("AA?A", Some(2)),
        ("A===", Some(1)),
        ("=AAA", Some(0)),
        ("AA=A", Some(2)),
        ("AA==AAAA", Some(4)),
        ("AAA=AAAA", Some(4)),
        ("AAAA=", Some(4)),
        ("AAAAAA=", Some(6)),
        ("AA=", Some(2)),
        ("AAAA====", Some(4)),
        ("AAAAAA=?", Some(6)),
        ("A-_A", Some(1)),
        ("AAA=====", Some(4)),
        ("AAAA A", Some(4)),
    ] {
        assert_eq!(decode_binary(value.as_bytes()).err(), at, "{value:?}");
    }
}
