//! The resolver of the containers' networks: on each network that has one it listens at the host's address, answers for the
//! names of who is on it, and passes all other questions on.
//!
//! It is one thread, which sleeps unless it is asked, and one for each connection. Everything that containers can make it hold is
//! bounded: questions that wait for an answer, connections, and how much of both is one client's. What is above that is answered
//! with a failure, or not heard. It knows names from nobody but the supervisor, and its sockets are kept outside, so a new one goes on
//! where the last one was: who asks between two waits for his answer.

mod forward;
mod server;
mod stream;
mod zone;

pub(crate) use server::{Keep, PREFIX, Resolver};
pub(crate) use zone::{DOMAIN, Host, Zone};

const PORT: u16 = 53;
