//! The head of a request, as text: what the simulators that speak HTTP by hand have in common.

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// Longer than any head of a client that means well.
const CAP: usize = 16 * 1024;

/// Reads up to the empty line. `None` if the client hangs up before or sends no text.
pub(super) async fn read(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 1024];
    while bytes.len() < CAP {
        let read = stream.read(&mut chunk).await.ok().filter(|read| *read > 0)?;
        bytes.extend(chunk.iter().take(read));
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            bytes.truncate(end);
            return String::from_utf8(bytes).ok();
        }
    }
    None
}
