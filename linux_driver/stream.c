// SPDX-License-Identifier: GPL-2.0-only
/* The bytes of a connection: its socket, and what it has sent and received. */
#include <linux/net.h>
#include <linux/random.h>
#include <linux/sizes.h>
#include <linux/tcp.h>
#include <net/sock.h>
#include <net/tcp.h>

#include "atdd.h"
#include "compat.h"

/* A thread that waits for bytes looks around so often. */
#define TICK		(HZ / 4)
#define CONNECT_TIME	(2 * HZ)
#define USER_TIMEOUT_MS	5000
/* Who waits for more is woken when all of it is there. */
#define LARGE		SZ_16K

const struct sockaddr_storage *atdd_address_of(struct atdd_connection *connection)
{
	return &connection->device->options.processes[connection->process];
}

int atdd_open_socket(struct atdd_connection *connection)
{
	const struct sockaddr_storage *address = atdd_address_of(connection);
	struct socket *socket;
	int error;

	error = sock_create_kern(&init_net, address->ss_family, SOCK_STREAM,
				 IPPROTO_TCP, &socket);
	if (error)
		return error;
	/*
	 * Memory may be short because of what is to be written here. It is not
	 * cleared at the end, as nbd does not: the last one's clearing patches code
	 * under a lock, which may be held by who waits for memory.
	 */
	sk_set_memalloc(socket->sk);
	socket->sk->sk_allocation = GFP_NOIO | __GFP_MEMALLOC;
	atdd_use_no_task_frag(socket->sk);
	tcp_sock_set_nodelay(socket->sk);
	tcp_sock_set_user_timeout(socket->sk, USER_TIMEOUT_MS);
	sock_set_keepalive(socket->sk);
	tcp_sock_set_keepidle(socket->sk, 2);
	tcp_sock_set_keepintvl(socket->sk, 1);
	socket->sk->sk_rcvtimeo = TICK;
	socket->sk->sk_sndtimeo = CONNECT_TIME;

	mutex_lock(&connection->mutex);
	connection->socket = socket;
	mutex_unlock(&connection->mutex);
	error = kernel_connect(socket, (struct sockaddr *)address,
			       sizeof(*address), 0);
	if (error == -EINPROGRESS)
		error = -ETIMEDOUT;
	socket->sk->sk_sndtimeo = MAX_SCHEDULE_TIMEOUT;
	connection->in_start = 0;
	connection->in_end = 0;
	connection->last_received = jiffies;
	connection->last_life = jiffies;
	connection->last_check = jiffies;
	connection->last_answered = jiffies;
	connection->probe = 0;
	/* Answers that were recorded on another connection have other numbers. */
	connection->last_number = get_random_u64() >> 2;
	return error;
}

void atdd_close_socket(struct atdd_connection *connection)
{
	struct socket *socket;

	mutex_lock(&connection->mutex);
	socket = connection->socket;
	connection->socket = NULL;
	mutex_unlock(&connection->mutex);
	if (socket)
		sock_release(socket);
}

/* Ends the connection, from any thread that may sleep. */
void atdd_shut_down(struct atdd_connection *connection)
{
	mutex_lock(&connection->mutex);
	if (connection->socket)
		kernel_sock_shutdown(connection->socket, SHUT_RDWR);
	mutex_unlock(&connection->mutex);
}

int atdd_send_all(struct atdd_connection *connection, size_t size)
{
	struct msghdr message = { .msg_flags = MSG_NOSIGNAL };
	struct kvec vec = { .iov_base = connection->out, .iov_len = size };

	while (vec.iov_len) {
		int sent = kernel_sendmsg(connection->socket, &message, &vec, 1,
					  vec.iov_len);

		if (sent <= 0)
			return sent ?: -EPIPE;
		vec.iov_base += sent;
		vec.iov_len -= sent;
	}
	WRITE_ONCE(connection->last_sent, jiffies);
	return 0;
}

/* Where all that was sent ends, as TCP counts bytes, and how much of it has arrived. */
u32 atdd_bytes_sent(struct atdd_connection *connection)
{
	return READ_ONCE(tcp_sk(connection->socket->sk)->write_seq);
}

u32 atdd_bytes_taken(struct atdd_connection *connection)
{
	return READ_ONCE(tcp_sk(connection->socket->sk)->snd_una);
}

size_t atdd_received(struct atdd_connection *connection)
{
	return connection->in_end - connection->in_start;
}

u8 *atdd_message_of(struct atdd_connection *connection)
{
	return connection->in + connection->in_start;
}

/* Has whoever waits woken once so many bytes are there, not by each few packets. */
static void wake_at(struct socket *socket, size_t size)
{
	struct sock *sk = socket->sk;

	if (READ_ONCE(sk->sk_rcvlowat) == size)
		return;
	lock_sock(sk);
	socket->ops->set_rcvlowat(sk, size);
	release_sock(sk);
}

/* Whether so much is there, or no more will come: for want of room, too. */
static bool is_there(struct sock *sk)
{
	return tcp_epollin_ready(sk, READ_ONCE(sk->sk_rcvlowat)) || READ_ONCE(sk->sk_err) ||
	       READ_ONCE(sk->sk_shutdown) & RCV_SHUTDOWN;
}

/*
 * Receives what there is, or what is missing of a message of known size, which may
 * come in several parts; 0 when nothing came for a tick.
 */
int atdd_receive(struct atdd_connection *connection, size_t missing)
{
	struct socket *socket = connection->socket;
	struct msghdr message = { .msg_flags = missing ? MSG_WAITALL : 0 };
	bool is_large = missing > LARGE;
	struct kvec vec;
	int count;

	if (connection->in_start == connection->in_end) {
		connection->in_start = 0;
		connection->in_end = 0;
	} else if (connection->in_start >= ATDD_BUFFER_SIZE / 2) {
		memmove(connection->in, atdd_message_of(connection), atdd_received(connection));
		connection->in_end -= connection->in_start;
		connection->in_start = 0;
	}
	vec.iov_base = connection->in + connection->in_end;
	vec.iov_len = missing ?: ATDD_BUFFER_SIZE - connection->in_end;
	wake_at(socket, is_large ? missing : 1);
	if (is_large) {
		/* Not in recvmsg: after a part, that would wait for as much again. */
		wait_event_interruptible_timeout(*sk_sleep(socket->sk), is_there(socket->sk),
						 TICK);
		message.msg_flags = MSG_DONTWAIT;
	}
	count = kernel_recvmsg(socket, &message, &vec, 1, vec.iov_len, message.msg_flags);
	if (count == -EAGAIN || count == -EINTR || count == -ERESTARTSYS)
		return 0;
	if (count <= 0)
		return count ?: -ECONNRESET;
	connection->in_end += count;
	connection->last_received = jiffies;
	return count;
}

/* Has so many bytes of the next message come by `deadline`? */
int atdd_await(struct atdd_connection *connection, size_t size, unsigned long deadline)
{
	while (atdd_received(connection) < size) {
		int count = atdd_receive(connection, 0);

		if (count < 0)
			return count;
		if (atdd_must_stop(connection))
			return -ESHUTDOWN;
		if (time_after(jiffies, deadline))
			return -ETIMEDOUT;
	}
	return 0;
}
