//! A put's value from the gRPC message to the read buffer: where its bytes are shared, and where they are copied.

use prost::Message;

use super::{request::Kind, *};
use crate::{auth::Requester, lease::Terms, mvcc::Revision, pagefile::MemoryImage, pagefile::PageFile};

fn lies_within(part: &[u8], whole: &[u8]) -> bool {
    let (part, whole) = (part.as_ptr_range(), whole.as_ptr_range());
    whole.start <= part.start && part.end <= whole.end
}

fn applier() -> Applier {
    let content = PageFile::image_of_new_file(4096);
    let file = PageFile::open(MemoryImage::new(&content, 1 << 20).map(), content.len() as u64).expect("sound");
    let backend = Backend::new(file).expect("sound");
    let state = state::restore(&backend.view()).expect("readable");
    let membership = state.membership(7, 1);
    Applier::new(Store::default(), backend, state, membership, Lessor::new(Terms::default()))
}

#[test]
fn a_value_is_copied_into_the_entry_and_into_the_record() {
    let put = PutRequest { key: "key".into(), value: vec![b'v'; 5000].into(), ..PutRequest::default() };
    let message = Bytes::from(put.encode_to_vec());
    let decoded = PutRequest::decode(message.clone()).expect("a put");
    assert!(lies_within(&decoded.key, &message) && lies_within(&decoded.value, &message));

    // The first copy: an entry has memory of its own, so that it does not keep a receive buffer alive.
    let data = request::wrap(1, Kind::Put, &message, Requester::NOBODY);
    assert!(!lies_within(&data, &message));
    let parsed = RaftRequest::parse(data.clone()).expect("a request");
    let Operation::Put(applied) = parsed.operation else { panic!("a put") };
    assert!(lies_within(&applied.key, &data) && lies_within(&applied.value, &data));

    // The second copy: the record. The change for the watchers and the read buffer share it, and the key of the change is part of it.
    let mut applier = applier();
    let entry = LogEntry { index: 1, term: 1, kind: EntryKind::Normal, data: data.clone() };
    applier.apply(&entry, RaftStatus::default(), |_| true).expect("sound");
    let change = applier.take_changes().remove(0);
    assert!(!lies_within(&change.record, &data));
    assert!(lies_within(&change.key, &change.record));
    let records = applier.backend().view();
    let record = records.record(&Revision::new(2, 0).put_key()).expect("sound").expect("just written");
    assert!(lies_within(record, &change.record));
}
