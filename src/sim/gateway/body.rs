//! The body of an answer on its way to the client: marks its end in the log, and ends early where a fault wants it to.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use hyper::body::{Frame, SizeHint};

use super::answers;
use super::backend::{Body, BoxError};
use super::log::Entry;

/// Where a body breaks off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// In the middle of a body of known length.
    Body,
    /// In the middle of the first chunk of a stream.
    FirstFrame,
}

/// An answer body under the gateway's control.
pub(super) struct AnswerBody {
    inner: Body,
    /// Dropped with the body: that is the request's end.
    _entry: Entry,
    /// Resolves when the stream has to end; true if it ends with an `ERROR` event.
    close: Option<BoxFuture<'static, bool>>,
    cut: Option<Cut>,
    state: State,
    sent: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Ended,
    /// Part of a chunk went out; the break follows once it had time to leave the process.
    Breaking,
    Broken,
}

/// Between the last bytes and the break: a server that fails at once takes unsent bytes with it.
const FLUSH: Duration = Duration::from_millis(10);

impl AnswerBody {
    pub(super) fn new(
        inner: Body,
        entry: Entry,
        close: Option<impl Future<Output = bool> + Send + 'static>,
        cut: Option<Cut>,
    ) -> Self {
        let close = close.map(FutureExt::boxed);
        Self { inner, _entry: entry, close, cut, state: State::Open, sent: 0 }
    }

    /// Shortens a chunk in which the body has to break off.
    fn shorten(&mut self, frame: Frame<Bytes>, total: Option<u64>) -> Frame<Bytes> {
        let data = match (self.cut, frame.into_data()) {
            (None, Ok(data)) => return Frame::data(data),
            (_, Err(trailers)) => return trailers,
            (Some(_), Ok(data)) => data,
        };
        let keep = match (self.cut, total) {
            (Some(Cut::Body), Some(total)) => usize::try_from((total / 2).saturating_sub(self.sent)).unwrap_or(0),
            _ => data.len() / 2,
        };
        self.sent += data.len() as u64;
        if keep < data.len() {
            self.state = State::Breaking;
            return Frame::data(data.slice(..keep));
        }
        Frame::data(data)
    }
}

impl hyper::body::Body for AnswerBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.state {
            State::Open => {}
            State::Ended => return Poll::Ready(None),
            State::Breaking => {
                self.close = Some(tokio::time::sleep(FLUSH).map(|()| false).boxed());
                self.state = State::Broken;
                return self.poll_frame(cx);
            }
            State::Broken => {
                if let Some(pause) = &mut self.close {
                    std::task::ready!(pause.poll_unpin(cx));
                    self.close = None;
                }
                return Poll::Ready(Some(Err("an injected fault cut the answer".into())));
            }
        }
        if let Some(Poll::Ready(expired)) = self.close.as_mut().map(|close| close.poll_unpin(cx)) {
            self.close = None;
            self.state = State::Ended;
            return Poll::Ready(expired.then(|| Ok(Frame::data(answers::expired_event()))));
        }
        let total = self.inner.size_hint().exact().map(|left| left + self.sent);
        let frame = std::task::ready!(Pin::new(&mut self.inner).poll_frame(cx));
        Poll::Ready(frame.map(|frame| frame.map(|frame| self.shorten(frame, total))))
    }

    fn is_end_stream(&self) -> bool {
        self.state == State::Ended || (self.state == State::Open && self.inner.is_end_stream())
    }

    /// The whole length also of a body that will be cut: the client has to be promised more than it gets.
    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
