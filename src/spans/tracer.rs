//! The tracer of one core, and spans under way.

use std::{
    borrow::Cow,
    cell::RefCell,
    rc::Rc,
    sync::Arc,
    time::{Instant, SystemTime},
};

use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::{
    context::SpanContext,
    finished::{Attribute, Finished, Kind, Parent, Scope},
    queue::Queue,
};

/// Decides which traces are sampled.
#[derive(Debug)]
pub struct Tracer {
    queue: Arc<Queue>,
    /// Traces whose last 63 bits are below are sampled.
    sampled_below: u64,
    random: RefCell<SmallRng>,
}

/// Sampled traces of a million: all of them.
const MILLION: u32 = 1_000_000;

/// A span under way. It ends when it is dropped.
#[derive(Debug)]
pub struct Span {
    tracer: Rc<Tracer>,
    since: Instant,
    /// `None` once it has ended.
    span: Option<Finished>,
}

impl Tracer {
    /// Samples so many traces of a million that begin here. `seed` is for ids, which have to be unique, not secret.
    #[must_use]
    pub fn new(queue: Arc<Queue>, per_million: u32, seed: u64) -> Rc<Self> {
        let sampled_below = (f64::from(per_million) / f64::from(MILLION) * (1_u64 << 63) as f64) as u64;
        Rc::new(Self { queue, sampled_below, random: RefCell::new(SmallRng::seed_from_u64(seed)) })
    }

    /// Begins the first span of a call, unless its trace is not sampled.
    pub fn begin(
        self: &Rc<Self>,
        scope: Scope,
        kind: Kind,
        name: impl FnOnce() -> String,
        parent: Option<SpanContext>,
    ) -> Option<Span> {
        let (context, parent) = match parent {
            Some(parent) if !parent.is_sampled() => return None,
            Some(parent) => {
                let of_caller = Parent { span_id: parent.span_id, is_remote: true };
                (SpanContext { span_id: self.new_id(), ..parent }, Some(of_caller))
            }
            None => {
                let trace_id = (u128::from(self.new_id()) << 64) | u128::from(self.new_id());
                if (trace_id as u64) >> 1 >= self.sampled_below {
                    return None;
                }
                (SpanContext { trace_id, span_id: self.new_id(), flags: SpanContext::SAMPLED, state: None }, None)
            }
        };
        Some(self.open(scope, kind, name().into(), context, parent))
    }

    fn open(
        self: &Rc<Self>,
        scope: Scope,
        kind: Kind,
        name: Cow<'static, str>,
        context: SpanContext,
        parent: Option<Parent>,
    ) -> Span {
        let started = SystemTime::now();
        let (attributes, failure) = (Vec::new(), None);
        let span = Finished { scope, name, kind, context, parent, started, ended: started, attributes, failure };
        Span { tracer: Rc::clone(self), since: Instant::now(), span: Some(span) }
    }

    fn new_id(&self) -> u64 {
        // Zero stands for no id.
        self.random.borrow_mut().random_range(1..=u64::MAX)
    }
}

impl Span {
    /// A step of this span.
    #[must_use]
    pub fn child(&self, scope: Scope, name: &'static str, attributes: Vec<Attribute>) -> Option<Span> {
        let own = &self.span.as_ref()?.context;
        let parent = Parent { span_id: own.span_id, is_remote: false };
        let context = SpanContext { span_id: self.tracer.new_id(), ..own.clone() };
        let mut child = self.tracer.open(scope, Kind::Internal, name.into(), context, Some(parent));
        child.add(attributes);
        Some(child)
    }

    pub fn add(&mut self, attributes: impl IntoIterator<Item = Attribute>) {
        if let Some(span) = &mut self.span {
            span.attributes.extend(attributes);
        }
    }

    /// What the span stands for has failed through the server.
    pub fn fail(&mut self, reason: Cow<'static, str>) {
        if let Some(span) = &mut self.span {
            span.failure = Some(reason);
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(mut span) = self.span.take() {
            // The time of the wall may be set meanwhile.
            span.ended = span.started + self.since.elapsed();
            self.tracer.queue.push(span);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::{SPANS_PER_BATCH, SPANS_WAITING_BYTES_MAX, SPANS_WAITING_MAX};
    use crate::spans::Counts;

    const SCOPE: Scope = Scope { name: "test", version: "1" };

    fn begin(tracer: &Rc<Tracer>, parent: Option<SpanContext>) -> Option<Span> {
        tracer.begin(SCOPE, Kind::Server, || "call".to_owned(), parent)
    }

    fn tracer(per_million: u32) -> (Arc<Queue>, Rc<Tracer>) {
        let queue = Arc::new(Queue::default());
        (Arc::clone(&queue), Tracer::new(queue, per_million, 7))
    }

    #[test]
    fn the_rate_decides_for_new_traces_and_the_caller_for_its_own() {
        for (per_million, expected) in [(0, 0..=0), (250_000, 2_200..=2_800), (1_000_000, 10_000..=10_000)] {
            let (queue, tracer) = tracer(per_million);
            let sampled = (0..10_000).filter(|_| begin(&tracer, None).is_some()).count();
            assert!(expected.contains(&sampled), "{sampled} of 10000 at {per_million}");
            let parent = SpanContext { trace_id: 5, span_id: 6, flags: 1, state: Some("a=b".into()) };
            let _dropped = queue.take();
            drop(begin(&tracer, Some(parent.clone())));
            let spans = queue.take();
            assert_eq!((spans[0].context.trace_id, &spans[0].context.state), (5, &parent.state));
            assert_eq!(spans[0].parent, Some(Parent { span_id: 6, is_remote: true }));
            assert!(begin(&tracer, Some(SpanContext { flags: 0, ..parent })).is_none());
        }
    }

    #[test]
    fn children_belong_to_their_parent_and_end_by_themselves() {
        let (queue, tracer) = tracer(1_000_000);
        let mut call = begin(&tracer, None).unwrap();
        let child = call.child(SCOPE, "put", vec![Attribute::key("key", b"k\xff")]).unwrap();
        call.fail("broken".into());
        drop(call);
        drop(child);
        let spans = queue.take();
        let [call, child] = &spans[..] else { panic!("{spans:?}") };
        assert_eq!(child.context.trace_id, call.context.trace_id);
        assert_eq!(child.parent, Some(Parent { span_id: call.context.span_id, is_remote: false }));
        assert_eq!(child.attributes, [Attribute::text("key", "k\u{fffd}")]);
        assert_eq!((call.parent, call.failure.as_deref()), (None, Some("broken")));
        assert!(call.ended >= call.started);
    }

    #[test]
    fn a_full_queue_loses_spans_and_counts_them() {
        let (queue, tracer) = tracer(1_000_000);
        for _ in 0..SPANS_WAITING_MAX + 3 {
            drop(begin(&tracer, None));
        }
        assert_eq!(queue.counts(), Counts { exported: 0, lost: 3 });
        assert_eq!(queue.take().len(), SPANS_WAITING_MAX);
        const { assert!(SPANS_PER_BATCH < SPANS_WAITING_MAX) };
        let large = vec![b'k'; SPANS_WAITING_BYTES_MAX / 2];
        for _ in 0..3 {
            begin(&tracer, None).unwrap().add([Attribute::key("key", &large)]);
        }
        assert_eq!((queue.take().len(), queue.counts().lost), (1, 5));
    }
}
