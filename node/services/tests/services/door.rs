//! Tokens, roles, rates, connections: who gets in.

use crate::chain::{Chain, Token, reason};
use anji_mempool::Limits as PoolLimits;
use anji_proto::v1;
use anji_proto::v1::operator_service_client::OperatorServiceClient;
use anji_proto::v1::wallet_service_client::WalletServiceClient;
use anji_services::Limits;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;
use tonic_types::StatusExt;

#[tokio::test]
async fn without_the_right_token_nobody_gets_in() {
    let chain = Chain::start().await;
    let channel = chain.channel().await;
    let rows = [
        ("", "TOKEN_MISSING", Code::Unauthenticated),
        ("Bearer ", "TOKEN_MISSING", Code::Unauthenticated),
        ("Basic wallet-token", "TOKEN_MISSING", Code::Unauthenticated),
        ("wallet-token", "TOKEN_MISSING", Code::Unauthenticated),
        ("Bearer wallet-toke", "TOKEN_UNKNOWN", Code::Unauthenticated),
        ("Bearer wallet-token2", "TOKEN_UNKNOWN", Code::Unauthenticated),
        ("Bearer operator-token", "ROLE_MISSING", Code::PermissionDenied),
    ];
    for (value, expected, code) in rows {
        let mut wallet = WalletServiceClient::with_interceptor(channel.clone(), Token(value.into()));
        let status = wallet.get_chain_info(v1::GetChainInfoRequest {}).await.expect_err(value);
        assert_eq!((status.code(), reason(&status).as_str()), (code, expected), "{value:?}");
        // Streams too, before anything is read.
        let status = wallet.stream_receipts(v1::StreamReceiptsRequest::default()).await.expect_err(value);
        assert_eq!(status.code(), code, "{value:?}");
    }
    let mut operator = OperatorServiceClient::with_interceptor(channel.clone(), Token("Bearer wallet-token".into()));
    let status = operator.get_status(v1::GetStatusRequest {}).await.expect_err("a wallet is no operator");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::PermissionDenied, "ROLE_MISSING"));
    let mut wallet = WalletServiceClient::with_interceptor(channel, Token("bearer wallet-token".into()));
    assert_eq!(wallet.get_chain_info(v1::GetChainInfoRequest {}).await.unwrap().into_inner().caller, 1);
}

#[tokio::test]
async fn a_caller_beyond_its_rate_is_told_when_to_come_back_and_others_are_not() {
    let limits = Limits { calls_per_second: 10, ..Limits::default() };
    let chain = Chain::with(limits, PoolLimits::default()).await;
    let mut wallet = chain.wallet("wallet").await;
    let mut refused = None;
    for _ in 0..40 {
        if let Err(status) = wallet.get_chain_info(v1::GetChainInfoRequest {}).await {
            refused = Some(status);
            break;
        }
    }
    let status = refused.expect("forty calls at once are more than ten a second allow");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "RATE_LIMITED"));
    let wait = status.get_details_retry_info().and_then(|info| info.retry_delay).expect("says when");
    assert!(wait > Duration::ZERO && wait <= Duration::from_millis(100), "{wait:?}");
    chain.wallet("credit").await.get_chain_info(v1::GetChainInfoRequest {}).await.expect("another caller's allowance");
    tokio::time::sleep(wait + Duration::from_millis(50)).await;
    wallet.get_chain_info(v1::GetChainInfoRequest {}).await.expect("after the wait");
}

#[tokio::test]
async fn bytes_that_are_not_http2_are_cut_off_and_the_node_goes_on() {
    let chain = Chain::start().await;
    let address = chain.services.local_addr();
    let rows: [&[u8]; 4] =
        [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", &[0; 64], &[0xff; 4096], b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"];
    for bytes in rows {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        // Closed or reset; never an answer.
        let _ = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await.expect("cut off");
        assert!(answer.is_empty());
    }
    // The right first line and garbage behind it: HTTP/2's own error.
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    stream.write_all(&[0xff; 512]).await.unwrap();
    let _ = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut Vec::new())).await.expect("cut off");
    chain.wallet("wallet").await.get_chain_info(v1::GetChainInfoRequest {}).await.expect("the node goes on");
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_at_once() {
    let limits = Limits { connections: 2, ..Limits::default() };
    let chain = Chain::with(limits, PoolLimits::default()).await;
    let first = chain.channel().await;
    let mut second = chain.wallet("wallet").await;
    let mut third = TcpStream::connect(chain.services.local_addr()).await.unwrap();
    let read = tokio::time::timeout(Duration::from_secs(5), third.read(&mut [0; 8])).await.expect("closed at once");
    assert!(matches!(read, Ok(0) | Err(_)));
    second.get_chain_info(v1::GetChainInfoRequest {}).await.expect("those inside are served");
    drop(first);
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let mut again = TcpStream::connect(chain.services.local_addr()).await.unwrap();
        // An open connection says nothing; a closed one says the end.
        if tokio::time::timeout(Duration::from_millis(100), again.read(&mut [0; 8])).await.is_err() {
            return;
        }
    }
    panic!("the place never became free");
}

#[tokio::test]
async fn health_and_reflection_answer_without_a_token() {
    let chain = Chain::start().await;
    let mut health = tonic_health::pb::health_client::HealthClient::new(chain.channel().await);
    let mut check = async |service: &str| {
        let request = tonic_health::pb::HealthCheckRequest { service: service.into() };
        health.check(request).await.map(|answer| answer.into_inner().status)
    };
    let (serving, not_serving) = (1, 2);
    assert_eq!(check("").await.unwrap(), not_serving, "until the node says so");
    chain.services.set_serving(true).await;
    for service in ["", "anji.v1.WalletService", "anji.v1.OperatorService"] {
        assert_eq!(check(service).await.unwrap(), serving, "{service:?}");
    }
    assert_eq!(check("no.such.Service").await.expect_err("unknown").code(), Code::NotFound);

    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    let mut reflection = ServerReflectionClient::new(chain.channel().await);
    let request = tonic_reflection::pb::v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers = reflection.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(list) = answer else { panic!("{answer:?}") };
    let names: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
    for name in ["anji.v1.WalletService", "anji.v1.OperatorService", "grpc.health.v1.Health"] {
        assert!(names.iter().any(|it| it == name), "{name} is not in {names:?}");
    }
}

/// Sends a message of one type to the path of another call.
async fn call<T>(chain: &Chain, path: &'static str, message: T) -> Result<(), tonic::Status>
where
    T: tonic_prost::prost::Message + Default + 'static,
{
    let token = Token("Bearer wallet-token".into());
    let channel = tonic::service::interceptor::InterceptedService::new(chain.channel().await, token);
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.map_err(|error| tonic::Status::unknown(error.to_string()))?;
    let codec = tonic_prost::ProstCodec::<T, v1::GetPaymentResponse>::default();
    let path = tonic::codegen::http::uri::PathAndQuery::from_static(path);
    client.unary(tonic::Request::new(message), path, codec).await.map(drop)
}

#[tokio::test]
async fn messages_that_do_not_decode_and_calls_that_do_not_exist_are_errors() {
    let chain = Chain::start().await;
    // A number where a message belongs.
    let wrong = v1::StreamError { status_code: 5, ..Default::default() };
    let status = call(&chain, "/anji.v1.WalletService/GetPayment", wrong).await.expect_err("does not decode");
    assert_eq!(status.code(), Code::Internal);
    let request = v1::GetPaymentRequest::default();
    let status = call(&chain, "/anji.v1.WalletService/NoSuchCall", request.clone()).await.expect_err("no such call");
    assert_eq!(status.code(), Code::Unimplemented);
    let status = call(&chain, "/anji.v1.NoSuchService/GetPayment", request).await.expect_err("no such service");
    assert_eq!(status.code(), Code::Unimplemented);
    chain.wallet("wallet").await.get_chain_info(v1::GetChainInfoRequest {}).await.expect("the node goes on");
}
