//! A watch whose events arrive late: a stale view of the cluster, with requests still being answered at once.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use hyper::body::{Body as _, Frame};
use tokio::time::{Instant, sleep_until};

use super::backend::{Body, BoxError};
use super::faults::Faults;
use crate::k8s::attributes::Attributes;

/// What a stream yields next.
type Item = Option<Result<Frame<Bytes>, BoxError>>;

/// A streamed body that passes on each chunk when its lag is over; order is kept.
pub(super) struct Lagging {
    inner: Body,
    faults: Faults,
    watch: Attributes,
    /// What was received, with the moment at which it may be seen.
    queue: VecDeque<(Instant, Item)>,
    timer: Option<BoxFuture<'static, ()>>,
    ended: bool,
}

impl Lagging {
    pub(super) fn new(inner: Body, faults: Faults, watch: Attributes) -> Self {
        Self { inner, faults, watch, queue: VecDeque::new(), timer: None, ended: false }
    }

    /// Takes in everything that the server has sent.
    fn receive(&mut self, cx: &mut Context<'_>) {
        while !self.ended {
            let Poll::Ready(item) = Pin::new(&mut self.inner).poll_frame(cx) else { return };
            self.ended = !matches!(item, Some(Ok(_)));
            let at = Instant::now() + self.faults.lag(&self.watch);
            let at = self.queue.back().map_or(at, |(before, _)| at.max(*before));
            self.queue.push_back((at, item));
        }
    }
}

impl hyper::body::Body for Lagging {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Item> {
        self.receive(cx);
        let Some((at, _)) = self.queue.front() else {
            return if self.ended { Poll::Ready(None) } else { Poll::Pending };
        };
        if *at > Instant::now() {
            let at = *at;
            let timer = self.timer.get_or_insert_with(|| sleep_until(at).boxed());
            std::task::ready!(timer.poll_unpin(cx));
        }
        self.timer = None;
        Poll::Ready(self.queue.pop_front().and_then(|(_, item)| item))
    }
}
