//! A DNS server for tests, UDP and TCP on one port of the loopback, that says what it is told to.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

#[derive(Clone)]
pub struct TestDns {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    replies: HashMap<(Name, RecordType), Reply>,
    /// Name, type and whether it came over TCP.
    asked: Vec<(String, RecordType, bool)>,
}

/// To a question of which nothing is said the answer is NXDOMAIN.
#[derive(Clone)]
pub enum Reply {
    Records(Vec<Record>),
    /// The second ones go into the additional section.
    Beside(Vec<Record>, Vec<Record>),
    /// Over UDP nothing but the truncation bit.
    Truncated(Vec<Record>),
    Code(ResponseCode),
    Silence,
}

/// NOERROR without records.
pub const EMPTY: Reply = Reply::Code(ResponseCode::NoError);

impl TestDns {
    pub async fn start() -> TestDns {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            // The same port may be taken for the other protocol.
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let dns = TestDns { address: udp.local_addr().unwrap(), state: Arc::default() };
        let server = dns.clone();
        tokio::spawn(async move {
            let mut buffer = vec![0; 4096];
            loop {
                let (length, peer) = udp.recv_from(&mut buffer).await.unwrap();
                if let Some(answer) = server.answer(&buffer[..length], false) {
                    udp.send_to(&answer, peer).await.unwrap();
                }
            }
        });
        let server = dns.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = tcp.accept().await.unwrap();
                tokio::spawn(server.clone().serve(stream));
            }
        });
        dns
    }

    pub fn set(&self, name: &str, kind: RecordType, reply: Reply) {
        let name = Name::from_str_relaxed(name).unwrap();
        self.state.lock().unwrap().replies.insert((name, kind), reply);
    }

    /// How often this was asked.
    pub fn asked(&self, name: &str, kind: RecordType) -> usize {
        let state = self.state.lock().unwrap();
        state.asked.iter().filter(|(asked, of, _)| asked == name && *of == kind).count()
    }

    pub fn asked_by_tcp(&self) -> usize {
        self.state.lock().unwrap().asked.iter().filter(|(_, _, tcp)| *tcp).count()
    }

    async fn serve(self, mut stream: TcpStream) {
        while let Ok(length) = stream.read_u16().await {
            let mut question = vec![0; length.into()];
            stream.read_exact(&mut question).await.unwrap();
            if let Some(answer) = self.answer(&question, true) {
                stream.write_u16(answer.len().try_into().unwrap()).await.unwrap();
                stream.write_all(&answer).await.unwrap();
            }
        }
    }

    fn answer(&self, question: &[u8], tcp: bool) -> Option<Vec<u8>> {
        let question = Message::from_vec(question).unwrap();
        let query = question.queries[0].clone();
        let mut state = self.state.lock().unwrap();
        let asked = (query.name().to_string(), query.query_type(), tcp);
        state.asked.push(asked);
        let reply = state.replies.get(&(query.name().to_lowercase(), query.query_type()));
        let reply = reply.cloned().unwrap_or(Reply::Code(ResponseCode::NXDomain));
        let mut message = Message::response(question.metadata.id, OpCode::Query);
        message.metadata.recursion_available = true;
        message.add_query(query);
        match reply {
            Reply::Records(records) => message.insert_answers(records),
            Reply::Beside(records, beside) => {
                message.insert_answers(records);
                message.insert_additionals(beside);
            }
            Reply::Truncated(_) if !tcp => message.metadata.truncation = true,
            Reply::Truncated(records) => message.insert_answers(records),
            Reply::Code(code) => message.metadata.response_code = code,
            Reply::Silence => return None,
        }
        Some(message.to_vec().unwrap())
    }
}

/// A and AAAA records.
pub fn addresses(name: &str, ttl: u32, ips: &[&str]) -> Vec<Record> {
    let name = Name::from_str_relaxed(name).unwrap();
    let record = |ip: &&str| {
        Record::from_rdata(name.clone(), ttl, RData::from(ip.parse::<IpAddr>().unwrap()))
    };
    ips.iter().map(record).collect()
}

/// Priority, weight, port and target of each.
pub fn services(name: &str, ttl: u32, of: &[(u16, u16, u16, &str)]) -> Vec<Record> {
    let name = Name::from_str_relaxed(name).unwrap();
    let record = |(priority, weight, port, target): &(u16, u16, u16, &str)| {
        let target = Name::from_str_relaxed(target).unwrap();
        let srv = SRV::new(*priority, *weight, *port, target);
        Record::from_rdata(name.clone(), ttl, RData::SRV(srv))
    };
    of.iter().map(record).collect()
}
