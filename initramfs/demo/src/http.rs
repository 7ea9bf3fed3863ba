//! As much of HTTP/1.1 as one page needs: the request line, and answers that close the connection.

/// No browser sends more; what is longer is refused.
pub(crate) const HEAD_LIMIT_BYTES: usize = 8 << 10;

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) head_only: bool,
    /// Without the query.
    pub(crate) path: String,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    Malformed,
    Version,
    Method,
    TooLarge,
    Slow,
}

impl Request {
    pub(crate) fn parse(head: &[u8]) -> Result<Self, Problem> {
        let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = std::str::from_utf8(line.strip_suffix(b"\r").unwrap_or(line)).map_err(|_| Problem::Malformed)?;
        let mut words = line.split(' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(Problem::Malformed);
        };
        let is_token = !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_uppercase());
        if !is_token || !target.starts_with('/') || target.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            return Err(Problem::Malformed);
        }
        match version {
            "HTTP/1.1" | "HTTP/1.0" => {}
            _ if version.starts_with("HTTP/") => return Err(Problem::Version),
            _ => return Err(Problem::Malformed),
        }
        let head_only = match method {
            "GET" => false,
            "HEAD" => true,
            _ => return Err(Problem::Method),
        };
        let path = target.split(['?', '#']).next().unwrap_or_default().to_owned();
        Ok(Self { head_only, path })
    }
}

/// Whether the empty line that ends a head has come.
pub(crate) fn is_complete(head: &[u8]) -> bool {
    let ends = |end: &[u8]| head.windows(end.len()).any(|part| part == end);
    ends(b"\r\n\r\n") || ends(b"\n\n")
}

/// The answer to a well-formed request; the page is only made when it is asked for.
pub(crate) fn route(request: &Request, page: impl FnOnce() -> String) -> Vec<u8> {
    let (status, kind, body) = match request.path.as_str() {
        "/" | "/index.html" => ("200 OK", "text/html; charset=utf-8", page()),
        "/health" => ("200 OK", "text/plain; charset=utf-8", "ok\n".to_owned()),
        _ => ("404 Not Found", "text/plain; charset=utf-8", "There is one page here: /\n".to_owned()),
    };
    response(status, kind, &body, request.head_only)
}

/// The answer to what is no request.
pub(crate) fn refuse(problem: &Problem) -> Vec<u8> {
    let (status, text) = match problem {
        Problem::Malformed => ("400 Bad Request", "This is not an HTTP/1.1 request.\n"),
        Problem::Version => ("505 HTTP Version Not Supported", "This server speaks HTTP/1.1.\n"),
        Problem::Method => ("405 Method Not Allowed", "This page can be read, no more: GET or HEAD.\n"),
        Problem::TooLarge => ("431 Request Header Fields Too Large", "The request's head is too long.\n"),
        Problem::Slow => ("408 Request Timeout", "The request took too long.\n"),
    };
    response(status, "text/plain; charset=utf-8", text, false)
}

fn response(status: &str, kind: &str, body: &str, head_only: bool) -> Vec<u8> {
    // Nothing is loaded from elsewhere, and no script runs; the browser is told to hold us to it.
    let allow = if status.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n{allow}Connection: close\r\n\
         Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\
         Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'\r\n\r\n",
        body.len()
    );
    let mut bytes = head.into_bytes();
    if !head_only {
        bytes.extend_from_slice(body.as_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read() {
        let parse = |text: &str| Request::parse(text.as_bytes());
        let request = |head_only, path: &str| Ok(Request { head_only, path: path.to_owned() });
        assert_eq!(parse("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), request(false, "/"));
        assert_eq!(parse("HEAD /health?deep=1 HTTP/1.0\r\n\r\n"), request(true, "/health"));
        assert_eq!(parse("GET / HTTP/1.1\n\n"), request(false, "/"));
    }

    #[test]
    fn what_is_no_request_is_told_so() {
        let parse = |text: &[u8]| Request::parse(text).unwrap_err();
        let texts = [
            "",
            "GET",
            "GET /",
            "GET  / HTTP/1.1",
            "get / HTTP/1.1",
            "GET x HTTP/1.1",
            "GET / FTP/1",
            "GET /\u{1} HTTP/1.1",
        ];
        for text in texts {
            assert_eq!(parse(text.as_bytes()), Problem::Malformed, "{text:?}");
        }
        assert_eq!(parse(b"GET /\xff HTTP/1.1\r\n\r\n"), Problem::Malformed);
        assert_eq!(parse(b"\x16\x03\x01\x02\x00\x01"), Problem::Malformed, "a TLS client");
        assert_eq!(parse(b"POST / HTTP/1.1\r\n\r\n"), Problem::Method);
        assert_eq!(parse(b"PRI * HTTP/2.0\r\n\r\n"), Problem::Malformed);
        assert_eq!(parse(b"GET / HTTP/2.0\r\n\r\n"), Problem::Version);
    }

    #[test]
    fn answers_are_complete_and_a_head_has_no_body() {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let health = Request { head_only: false, path: "/health".to_owned() };
        let answer = text(route(&health, || panic!("not asked for")));
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nok\n"), "{answer}");
        let head = text(route(&Request { head_only: true, ..health }, String::new));
        assert!(head.contains("Content-Length: 3\r\n") && head.ends_with("\r\n\r\n"), "{head}");
        let missing = Request { head_only: false, path: "/favicon.ico".to_owned() };
        assert!(text(route(&missing, String::new)).starts_with("HTTP/1.1 404 "));
        assert!(text(refuse(&Problem::Method)).contains("Allow: GET, HEAD\r\n"));
    }

    #[test]
    fn a_head_ends_with_an_empty_line() {
        assert!(is_complete(b"GET / HTTP/1.1\r\nA: b\r\n\r\n"));
        assert!(is_complete(b"GET / HTTP/1.1\n\n"));
        assert!(!is_complete(b"GET / HTTP/1.1\r\nA: b\r\n"));
    }
}
