//! Counts of applied operations since the start, as in etcd: one per operation, not per key.

use crate::proto::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RequestOp, TxnRequest, TxnResponse, request_op::Request, response_op::Response,
};

/// Operations of applied requests. The fronts count reads outside of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub ranges: u64,
    pub puts: u64,
    pub deletes: u64,
    /// Transactions of more than one operation.
    pub txns: u64,
    /// Bytes of keys and values put.
    pub put_bytes: u64,
}

impl Tally {
    pub fn count_put(&mut self, request: &PutRequest) {
        let before = self.operations();
        self.put(request);
        self.end(before);
    }

    pub fn count_delete(&mut self, request: &DeleteRangeRequest) {
        let before = self.operations();
        self.delete(request);
        self.end(before);
    }

    /// A revoked lease's keys were deleted, each by an operation of its own.
    pub fn count_revoked(&mut self, keys: u64) {
        let before = self.operations();
        self.deletes += keys;
        self.end(before);
    }

    /// Counts the branches that the answer says were taken.
    pub fn count_txn(&mut self, request: &TxnRequest, response: &TxnResponse) {
        let before = self.operations();
        let mut open = vec![(request, response)];
        while let Some((request, response)) = open.pop() {
            let branch: &[RequestOp] = if response.succeeded { &request.success } else { &request.failure };
            for (op, answer) in branch.iter().zip(&response.responses) {
                match (&op.request, &answer.response) {
                    (Some(Request::RequestRange(_)), _) => self.ranges += 1,
                    (Some(Request::RequestPut(put)), _) => self.put(put),
                    (Some(Request::RequestDeleteRange(delete)), _) => self.delete(delete),
                    (Some(Request::RequestTxn(inner)), Some(Response::ResponseTxn(answer))) => {
                        open.push((inner, answer));
                    }
                    _ => {}
                }
            }
        }
        self.end(before);
    }

    fn put(&mut self, request: &PutRequest) {
        self.puts += 1;
        self.put_bytes += (request.key.len() + request.value.len()) as u64;
        // etcd reads the version before, where it needs it, with a range.
        self.ranges += u64::from(request.prev_kv || request.ignore_value || request.ignore_lease);
    }

    fn delete(&mut self, request: &DeleteRangeRequest) {
        self.deletes += 1;
        self.ranges += u64::from(request.prev_kv);
    }

    fn operations(&self) -> u64 {
        self.ranges + self.puts + self.deletes
    }

    fn end(&mut self, before: u64) {
        self.txns += u64::from(self.operations() - before > 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::etcdserverpb::{DeleteRangeResponse, PutResponse, RangeRequest, RangeResponse, ResponseOp};

    fn op(request: Request) -> RequestOp {
        RequestOp { request: Some(request) }
    }

    fn answer(response: Response) -> ResponseOp {
        ResponseOp { response: Some(response) }
    }

    #[test]
    fn one_put_is_no_transaction() {
        let mut tally = Tally::default();
        tally.count_put(&PutRequest { key: "ab".into(), value: "cde".into(), ..PutRequest::default() });
        assert_eq!(tally, Tally { puts: 1, put_bytes: 5, ..Tally::default() });
    }

    #[test]
    fn only_branches_taken_count() {
        let put = PutRequest { key: "k".into(), prev_kv: true, ..PutRequest::default() };
        let inner = TxnRequest { failure: vec![op(Request::RequestPut(put))], ..TxnRequest::default() };
        let request = TxnRequest {
            success: vec![op(Request::RequestRange(RangeRequest::default())), op(Request::RequestTxn(inner))],
            failure: vec![op(Request::RequestDeleteRange(DeleteRangeRequest::default()))],
            ..TxnRequest::default()
        };
        let inner = TxnResponse {
            responses: vec![answer(Response::ResponsePut(PutResponse::default()))],
            ..TxnResponse::default()
        };
        let succeeded = TxnResponse {
            succeeded: true,
            responses: vec![
                answer(Response::ResponseRange(RangeResponse::default())),
                answer(Response::ResponseTxn(inner)),
            ],
            ..TxnResponse::default()
        };
        let mut tally = Tally::default();
        tally.count_txn(&request, &succeeded);
        assert_eq!(tally, Tally { ranges: 2, puts: 1, txns: 1, put_bytes: 1, ..Tally::default() });
        let failed = TxnResponse {
            responses: vec![answer(Response::ResponseDeleteRange(DeleteRangeResponse::default()))],
            ..TxnResponse::default()
        };
        let mut tally = Tally::default();
        tally.count_txn(&request, &failed);
        assert_eq!(tally, Tally { deletes: 1, ..Tally::default() });
    }
}
