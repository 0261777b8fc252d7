//! Beginning and end of a server: addresses, socket files, shutdown.

use std::os::unix::fs::{FileTypeExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nbd_frontend::memory::MemoryDevice;
use nbd_frontend::{Address, AlwaysOpen, ListenError, Options, Server, ServerError};

use crate::client::{CACHE, Client, ESHUTDOWN, READ, pattern};
use crate::served::{any_port, options, serve, serve_device, serve_with};

fn bind_error(address: &Address, options: Options) -> ServerError {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let export = Arc::new(AlwaysOpen::new(Arc::new(MemoryDevice::new(1))));
    runtime
        .block_on(Server::bind(address, options, export))
        .expect_err("the server must not start")
}

fn unix(path: &Path) -> Address {
    Address::Unix(path.to_owned())
}

fn is_socket(path: &Path) -> bool {
    path.symlink_metadata()
        .is_ok_and(|metadata| metadata.file_type().is_socket())
}

#[test]
fn a_port_in_use_is_named() {
    let server = serve();
    let error = bind_error(&server.address, options());
    assert!(
        matches!(error, ServerError::Listen(ListenError::PortInUse { .. })),
        "{error}"
    );
    let port = server.socket_address().port();
    assert_eq!(
        error.to_string(),
        format!(
            "127.0.0.1:{port} is in use by another program: stop that program, or choose another port"
        )
    );
}

#[test]
fn host_names_are_looked_up() {
    let address = "localhost:0".parse().unwrap();
    let server = serve_device(MemoryDevice::new(1), options(), &address, 1);
    assert_ne!(server.socket_address().port(), 0);
    assert_eq!(server.uri, format!("nbd://{}", server.socket_address()));
}

#[test]
fn names_that_the_protocol_cannot_carry_are_refused() {
    for name in ["x".repeat(4097), "a\0b".to_owned()] {
        let error = bind_error(
            &any_port(),
            Options {
                export_name: name,
                ..options()
            },
        );
        assert!(matches!(error, ServerError::Text("name")), "{error}");
    }
}

#[test]
fn an_abandoned_socket_is_replaced_and_removed_at_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    drop(UnixListener::bind(&path).unwrap());
    assert!(is_socket(&path));
    let server = serve_device(MemoryDevice::new(1), options(), &unix(&path), 1);
    assert_eq!(server.socket_path(), path);
    UnixStream::connect(&path).unwrap();
    drop(server);
    assert!(!path.exists());
}

#[test]
fn a_socket_that_is_answered_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let _server = serve_device(MemoryDevice::new(1), options(), &unix(&path), 1);
    let error = bind_error(&unix(&path), options());
    assert!(
        matches!(error, ServerError::Listen(ListenError::SocketInUse { .. })),
        "{error}"
    );
    UnixStream::connect(&path).unwrap();
}

#[test]
fn what_is_not_a_socket_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    let socket = directory.path().join("abandoned");
    drop(UnixListener::bind(&socket).unwrap());
    let link = directory.path().join("link");
    symlink(&socket, &link).unwrap();
    let dangling = directory.path().join("dangling");
    symlink(directory.path().join("nowhere"), &dangling).unwrap();
    for path in [&file, &link, &dangling, &directory.path().to_owned()] {
        let error = bind_error(&unix(path), options());
        let expected = matches!(error, ServerError::Listen(ListenError::NotASocket { .. }));
        assert!(expected, "{}: {error}", path.display());
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
    assert!(is_socket(&socket) && link.is_symlink() && dangling.is_symlink());
}

#[test]
fn a_socket_that_another_server_put_there_is_not_removed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let server = serve_device(MemoryDevice::new(1), options(), &unix(&path), 1);
    std::fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    drop(server);
    assert!(is_socket(&path));
}

#[test]
fn paths_that_cannot_be_are_named() {
    let long = bind_error(
        &unix(Path::new(&format!("/tmp/{}", "x".repeat(120)))),
        options(),
    );
    assert!(
        matches!(long, ServerError::Listen(ListenError::PathTooLong { .. })),
        "{long}"
    );
    let nowhere = bind_error(&unix(Path::new("/nonexistent/socket")), options());
    assert!(
        matches!(nowhere, ServerError::Listen(ListenError::Other { .. })),
        "{nowhere}"
    );
}

#[test]
fn shutdown_closes_idle_clients_at_once() {
    let mut server = serve();
    let mut silent = Client::connect(&server);
    silent.receive(18);
    let mut greeted = Client::greet(&server, 3);
    let mut idle = Client::simple(&server);
    let begin = Instant::now();
    server.stop();
    for client in [&mut silent, &mut greeted, &mut idle] {
        client.expect_closed();
    }
    drop((silent, greeted, idle));
    server.join();
    assert!(begin.elapsed() < options().grace);
}

#[test]
fn shutdown_lets_requests_under_way_finish() {
    let mut server = serve();
    server.device.hold();
    let mut client = Client::simple(&server);
    client.send_write(1, 0, &pattern(1, 5000));
    client.header(0, CACHE, 2, 0, 0);
    assert_eq!(client.simple_reply(), (0, 2));
    server.stop();
    // A request after the shutdown gets no answer but the end.
    client.header(0, READ, 3, 0, 4096);
    std::thread::sleep(Duration::from_millis(20));
    server.device.release();
    assert_eq!(client.simple_reply(), (0, 1));
    client.expect_closed();
    drop(client);
    server.join();
    assert_eq!(server.device.sectors_stored(), 2);
}

#[test]
fn shutdown_does_not_wait_for_a_device_that_does_not_come_back() {
    let mut server = serve_with(Options {
        grace: Duration::from_millis(50),
        ..options()
    });
    server.device.hold();
    let mut clients = [Client::simple(&server), Client::structured(&server)];
    for client in &mut clients {
        for cookie in 0..3 {
            client.header(0, READ, cookie, 0, 4096);
        }
        client.header(0, CACHE, 9, 0, 0);
        assert_eq!(client.simple_reply(), (0, 9));
    }
    // One that has died meanwhile does not hold up the others.
    let mut dead = Client::simple(&server);
    dead.send_write(1, 0, b"x");
    drop(dead);
    server.stop();
    let [simple, structured] = &mut clients;
    let mut cookies: Vec<_> = (0..3).map(|_| simple.simple_reply()).collect();
    cookies.sort_unstable();
    assert_eq!(cookies, [(ESHUTDOWN, 0), (ESHUTDOWN, 1), (ESHUTDOWN, 2)]);
    simple.expect_closed();
    for _ in 0..3 {
        assert_eq!(structured.error_chunk().0, ESHUTDOWN);
    }
    structured.expect_closed();
    // They do not even have to close their side.
    server.join();
}
