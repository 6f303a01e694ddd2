//! How hops are talked with, in either dialect: questions to bytes, bytes to answers.
//!
//! Here: numbers of questions, framing. Not here: the streams (`hops`), what is asked
//! (`ringway_proto::route::group_setup`).

use ringway_proto::dmsg::rpc::{self, ROUTER_PORT, RouterCall, RouterGateway};
use ringway_proto::route::{HopReply, HopRequest, Message, MessageReader, ROUTE_SETUP_PORT};

/// One stream to a hop, in the words of a dialect.
pub(super) trait Conversation: Default + Send + 'static {
    /// A question.
    type Request: Clone + Send + 'static;

    /// Port of a hop where it is asked.
    const PORT: u16;

    /// Appends a question; returns the number that its answer will have.
    ///
    /// # Errors
    ///
    /// Why this stream can be asked nothing any more.
    fn ask(&mut self, request: &Self::Request, out: &mut Vec<u8>) -> Result<u64, &'static str>;

    /// Keeps bytes of the stream.
    fn push(&mut self, bytes: &[u8]);

    /// Returns the next answer with its number, none when there is none yet.
    ///
    /// # Errors
    ///
    /// The hop does not speak the protocol.
    fn next_answer(&mut self) -> Result<Option<(u64, HopReply)>, &'static str>;
}

/// The messages of the native dialect.
#[derive(Default)]
pub(super) struct Messages {
    reader: MessageReader,
    last: u32,
}

impl Conversation for Messages {
    type Request = HopRequest;
    const PORT: u16 = ROUTE_SETUP_PORT;

    fn ask(&mut self, request: &HopRequest, out: &mut Vec<u8>) -> Result<u64, &'static str> {
        self.last = self.last.wrapping_add(1);
        let message = Message {
            id: self.last,
            body: request.clone(),
        };
        let encoded = message.encode(out);
        encoded.map_err(|_| "it was asked what has no place in a message")?;
        Ok(self.last.into())
    }

    fn push(&mut self, bytes: &[u8]) {
        self.reader.push(bytes);
    }

    fn next_answer(&mut self) -> Result<Option<(u64, HopReply)>, &'static str> {
        let message = self.reader.next_message::<HopReply>();
        let message = message.map_err(|_| NO_PROTOCOL)?;
        Ok(message.map(|message| (message.id.into(), message.body)))
    }
}

/// Go's calls, which visors of Skywire answer.
#[derive(Default)]
pub(super) struct Calls(rpc::Client<RouterGateway>);

impl Conversation for Calls {
    type Request = RouterCall;
    const PORT: u16 = ROUTER_PORT;

    fn ask(&mut self, request: &RouterCall, out: &mut Vec<u8>) -> Result<u64, &'static str> {
        let asked = self.0.call(request, out);
        asked.map_err(|_| "it owes too many answers, or was asked what has no place in a call")
    }

    fn push(&mut self, bytes: &[u8]) {
        self.0.push(bytes);
    }

    fn next_answer(&mut self) -> Result<Option<(u64, HopReply)>, &'static str> {
        let answered = self.0.next_reply().map_err(|_| NO_PROTOCOL)?;
        Ok(answered.map(|answered| (answered.number, rpc::hop_reply(answered.reply))))
    }
}

const NO_PROTOCOL: &str = "the hop does not speak the protocol";
