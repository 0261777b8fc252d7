//! Messages, byte for byte.

use super::*;

#[track_caller]
fn golden(request: ClientRequest, key: &dyn Tagger, digits: &str, content: &[u8], tag: &str) {
    let mut expected = hex::decode(digits.replace(' ', "")).unwrap();
    expected.extend(content);
    expected.extend(hex::decode(tag).unwrap());
    assert_eq!(hex::encode(encoded(&request, key)), hex::encode(&expected));
    assert_eq!(decode_all(key, &expected), [Decoded::Request(request)]);
}

#[test]
fn golden_attaches() {
    let join = Some(JoinKey([0x22; 32]));
    golden(
        request(1, 0, attach(AttachKind::Exclusive { join }, true, Some(9))),
        &plain(),
        "6174646400000080 0000000000000001 0000000000000000 \
         11111111111111111111111111111111 01 03 000000000000 0000000000000009 \
         2222222222222222222222222222222222222222222222222222222222222222 \
         a0a1a2a3a4a5a6a7a8a9aaabacadaeaf",
        &[],
        "37335d1634d6d2342bddd657f2c4de51b7f2cca79bd53257e119609cd3f2c26d",
    );
    golden(
        request(1, 0, attach(AttachKind::ReadOnly, false, None)),
        &plain(),
        "6174646400000080 0000000000000001 0000000000000000 \
         11111111111111111111111111111111 03 00 000000000000 0000000000000000 \
         0000000000000000000000000000000000000000000000000000000000000000 \
         a0a1a2a3a4a5a6a7a8a9aaabacadaeaf",
        &[],
        "9ccced9e72843e68f50d4093673851f93ce1f6831cb24496b4bc88835e99d5c5",
    );
}

#[test]
fn golden_hello() {
    golden(
        request(7, 0, ClientCommand::Hello),
        &plain(),
        "6174646400000086 0000000000000007 0000000000000000",
        &[],
        "dc0832d6ce5d6e764d6d3f706a4ba4221c57c8a5fe878098850921931fbc70f7",
    );
    golden_response(
        &ClientResponse::hello(7, session()),
        "61746464000000c6 0000000000000007 a0a1a2a3a4a5a6a7a8a9aaabacadaeaf \
         b04f1ce57c3b96f5216660a45e6098f7b687f400efd3f32ba254590fffc60ed3",
    );
}

#[test]
fn golden_requests_of_a_session() {
    golden(
        request(2, 8, ClientCommand::ReadRange { count: 3 }),
        &of_requests(),
        "6174646400000081 0000000000000002 0000000000000008 00000003 00000000",
        &[],
        "8f5e76107e6c890d27e400124fa7b9a200000000000000000000000000000000",
    );
    golden(
        request(3, 8, ClientCommand::WriteRange(vec![7; SECTOR_SIZE].into())),
        &of_requests(),
        "6174646400000082 0000000000000003 0000000000000008 00000001 00000000",
        &[7; SECTOR_SIZE],
        "d8c92331d22d99a59f00b9babaedf7be00000000000000000000000000000000",
    );
    golden(
        request(4, 8, ClientCommand::Discard { count: 1 << 16 }),
        &of_requests(),
        "6174646400000083 0000000000000004 0000000000000008 00010000 00000000",
        &[],
        "5b0876a2d64f2a0909b91a8aac791ca600000000000000000000000000000000",
    );
    golden(
        request(5, 0, ClientCommand::Heartbeat),
        &of_requests(),
        "6174646400000084 0000000000000005 0000000000000000",
        &[],
        "7a71d387368606097c6ae9a51d6ff79a00000000000000000000000000000000",
    );
    golden(
        request(6, 0, ClientCommand::Detach),
        &of_requests(),
        "6174646400000085 0000000000000006 0000000000000000",
        &[],
        "68080afdfeabdddcd3d097f9be2309cc00000000000000000000000000000000",
    );
}

#[track_caller]
fn golden_answer(status: ClientStatus, answer: &AttachAnswer, digits: &str) {
    let response = ClientResponse {
        number: 1,
        kind: ClientKind::Attach,
        status,
        content: answer.encode(),
    };
    golden_response(&response, digits);
    let decoded = AttachAnswer::decode(&response.content);
    assert_eq!(decoded.as_ref(), Some(answer));
}

#[track_caller]
fn golden_response(response: &ClientResponse, digits: &str) {
    let sent = response.clone().encode(&plain());
    let bytes = [&sent.head[..], &sent.content, &sent.tag].concat();
    assert_eq!(hex::encode(&bytes), digits.replace(' ', ""));
    let mut stream = BytesMut::from(&bytes[..]);
    let decoded = decode_response(&plain(), &mut stream).unwrap();
    assert_eq!(decoded.as_ref(), Some(response));
}

#[test]
fn golden_attach_answers() {
    let zeroes = |bytes| "00".repeat(bytes);
    let ok = "61746464000000c0 0000000000000001 0000000000000007 0000000000000100 \
              00000100 00010000 000001f4 02 000000";
    let tag = "2f0a76916ca1745911629c682da329265a3a3bf67b34c26e5b1f898358fa6884";
    let ok = format!("{ok}{}{tag}", zeroes(64));
    golden_answer(ClientStatus::Ok, &answer(7, 2, ""), &ok);
    let held = "61746464000003c0 0000000000000001 0000000000000007 0000000000000100 \
                00000100 00010000 000001f4 03 000000";
    let name = format!("31302e302e302e393a31{}", zeroes(54));
    let tag = "9f7f299e3ae8104fd1b4a2fd0633e4e82168f84fb9858b78f350b1ee541ab124";
    let held = format!("{held}{name}{tag}");
    golden_answer(ClientStatus::Held, &answer(7, 3, "10.0.0.9:1"), &held);
}

#[test]
fn golden_bare_responses() {
    use ClientKind::{Detach, Discard, Heartbeat, ReadRange, WriteRange};
    use ClientStatus::{Fenced, NotAttached, Ok};
    for (number, kind, status, head, tag) in [
        (
            3,
            WriteRange,
            Fenced,
            "61746464000004c2",
            "0afd8be1da1a34c7b803a88b4d46896600000000000000000000000000000000",
        ),
        (
            4,
            Discard,
            Ok,
            "61746464000000c3",
            "d409b0102cadeaf653a07a1eb342157000000000000000000000000000000000",
        ),
        (
            5,
            Heartbeat,
            Ok,
            "61746464000000c4",
            "f3126a54ce51b0e27a09397cca90d87e00000000000000000000000000000000",
        ),
        (
            6,
            Detach,
            Ok,
            "61746464000000c5",
            "63e9eb8c971cb5c1d684087234d9ea2800000000000000000000000000000000",
        ),
        (
            2,
            ReadRange,
            NotAttached,
            "6174646400000bc1",
            "a1ed1935ed849ec79e3fbe0bf76fe80500000000000000000000000000000000",
        ),
    ] {
        let sent = ClientResponse::bare(number, kind, status).encode(&of_responses());
        let bytes = [&sent.head[..], &sent.content, &sent.tag].concat();
        assert_eq!(hex::encode(bytes), format!("{head}{number:016x}{tag}"));
    }
}
