// SPDX-License-Identifier: GPL-2.0-only
/*
 * Connections: each has a thread that connects, receives and, when the
 * connection is lost, puts what was in flight back and turns to another
 * process. A work item sends.
 *
 * Where the server knows attachments, all connections are to one process: the
 * first attaches, the others join it. The loss of one ends them all, and the
 * first attaches again, through another process and under a new generation:
 * only so is nothing left behind that could fall on top of newer writes. A
 * server of the classic protocol cannot promise that; there, each connection
 * lives for itself, spread over the processes.
 */
#include <linux/kthread.h>
#include <linux/net.h>
#include <linux/random.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/tcp.h>
#include <net/sock.h>
#include <net/tcp.h>

#include "atdd.h"

/* A thread that waits for bytes looks around so often. */
#define TICK		(HZ / 4)
/* After so long without sending, a heartbeat is sent. */
#define HEARTBEAT	(HZ / 2)
/* An attached server that is silent for so long is lost: it answers heartbeats. */
#define SILENCE		(2 * HZ)
/* One that has no heartbeats may only be slow, or lack a majority. */
#define CLASSIC_SILENCE	(30 * HZ)
#define CONNECT_TIME	(2 * HZ)
/* A heartbeat needs nobody but the server. */
#define HEARTBEAT_TIME	(HZ / 2)
/* An attach waits for a majority; another process may have one. */
#define ATTACH_TIME	(3 * HZ)
/* Whoever seems to hold the disk may be this host, before it went down. */
#define HELD_TIME	(10 * HZ)
#define OPEN_TIME	(30 * HZ)
#define PAUSE_MIN_MS	50
#define PAUSE_MAX_MS	1000
#define USER_TIMEOUT_MS	5000

#define BUFFER_SIZE	(2 * ATDD_MESSAGE_MAX)

static bool must_stop(struct atdd_connection *connection)
{
	return kthread_should_stop() ||
	       READ_ONCE(connection->device->state) >= ATDD_DEAD;
}

static bool leads(struct atdd_connection *connection)
{
	return connection->index == 0;
}

/* Ends the connection, from any thread that may sleep. */
static void shut_down(struct atdd_connection *connection)
{
	mutex_lock(&connection->mutex);
	if (connection->socket)
		kernel_sock_shutdown(connection->socket, SHUT_RDWR);
	mutex_unlock(&connection->mutex);
}

/* Sending */

static int send_all(struct atdd_connection *connection, size_t size)
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

static u64 next_number(struct atdd_connection *connection)
{
	/* Not of a slot: see atdd_take_piece(). */
	connection->last_number = ((connection->last_number | 0xff) + 1) | 0xff;
	return connection->last_number;
}

static size_t put_bare(struct atdd_connection *connection, u8 type, u64 sector, u8 *to)
{
	struct atdd_request_header *header = (struct atdd_request_header *)to;

	*header = (struct atdd_request_header) {
		.magic = cpu_to_be32(ATDD_MAGIC),
		.type = type,
		.sector = cpu_to_be64(sector),
	};
	spin_lock(&connection->device->lock);
	header->number = cpu_to_be64(next_number(connection));
	spin_unlock(&connection->device->lock);
	atdd_tag(connection, to, sizeof(*header), to + sizeof(*header));
	return sizeof(*header) + ATDD_TAG_SIZE;
}

/* Fills the buffer with all that there is to send and that it has room for. */
static size_t fill(struct atdd_connection *connection)
{
	struct atdd_piece piece;
	size_t size = 0;

	if (xchg(&connection->heartbeat, false))
		size = put_bare(connection, ATDD_HEARTBEAT, 0, connection->out);
	while (atdd_take_piece(connection, BUFFER_SIZE - size, &piece))
		size += atdd_put_piece(connection, &piece, connection->out + size);
	return size;
}

static void send_work(struct work_struct *work)
{
	struct atdd_connection *connection;
	unsigned int noreclaim = memalloc_noreclaim_save();
	size_t size;

	connection = container_of(work, struct atdd_connection, send_work);
	while ((size = fill(connection))) {
		if (send_all(connection, size)) {
			/* The thread puts all of it back. */
			shut_down(connection);
			break;
		}
	}
	memalloc_noreclaim_restore(noreclaim);
}

/* Receiving */

static size_t received(struct atdd_connection *connection)
{
	return connection->in_end - connection->in_start;
}

static u8 *message_of(struct atdd_connection *connection)
{
	return connection->in + connection->in_start;
}

/*
 * Receives what there is, or all that is missing of a message of known size;
 * 0 when nothing came for a tick.
 */
static int receive(struct atdd_connection *connection, size_t missing)
{
	struct msghdr message = { .msg_flags = missing ? MSG_WAITALL : 0 };
	struct kvec vec;
	int count;

	if (connection->in_start == connection->in_end) {
		connection->in_start = 0;
		connection->in_end = 0;
	} else if (connection->in_start >= BUFFER_SIZE / 2) {
		memmove(connection->in, message_of(connection), received(connection));
		connection->in_end -= connection->in_start;
		connection->in_start = 0;
	}
	vec.iov_base = connection->in + connection->in_end;
	vec.iov_len = missing ?: BUFFER_SIZE - connection->in_end;
	count = kernel_recvmsg(connection->socket, &message, &vec, 1, vec.iov_len,
			       message.msg_flags);
	if (count == -EAGAIN || count == -EINTR || count == -ERESTARTSYS)
		return 0;
	if (count <= 0)
		return count ?: -ECONNRESET;
	connection->in_end += count;
	connection->last_received = jiffies;
	return count;
}

/* Has so many bytes of the next message come by `deadline`? */
static int await(struct atdd_connection *connection, size_t size, unsigned long deadline)
{
	while (received(connection) < size) {
		int count = receive(connection, 0);

		if (count < 0)
			return count;
		if (must_stop(connection))
			return -ESHUTDOWN;
		if (time_after(jiffies, deadline))
			return -ETIMEDOUT;
	}
	return 0;
}

/* Opening */

static const struct sockaddr_storage *address_of(struct atdd_connection *connection)
{
	return &connection->device->options.processes[connection->process];
}

static int open_socket(struct atdd_connection *connection)
{
	const struct sockaddr_storage *address = address_of(connection);
	struct socket *socket;
	int error;

	error = sock_create_kern(&init_net, address->ss_family, SOCK_STREAM,
				 IPPROTO_TCP, &socket);
	if (error)
		return error;
	/* Memory may be short because of what is to be written here. */
	sk_set_memalloc(socket->sk);
	socket->sk->sk_allocation = GFP_NOIO | __GFP_MEMALLOC;
	socket->sk->sk_use_task_frag = false;
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
	/* Answers that were recorded on another connection have other numbers. */
	connection->last_number = get_random_u64() >> 2;
	return error;
}

static void close_socket(struct atdd_connection *connection)
{
	struct socket *socket;

	mutex_lock(&connection->mutex);
	socket = connection->socket;
	connection->socket = NULL;
	mutex_unlock(&connection->mutex);
	if (socket)
		sock_release(socket);
}

/*
 * Waits for the response to what was sent last, outside of the slots, and gives
 * its content.
 */
static int await_response(struct atdd_connection *connection, unsigned long deadline,
			  struct atdd_response_header *header, const u8 **content)
{
	size_t size = sizeof(*header);
	int error = await(connection, size, deadline);

	if (error)
		return error;
	*header = *(struct atdd_response_header *)message_of(connection);
	if (header->magic != cpu_to_be32(ATDD_MAGIC))
		return -EPROTO;
	if (header->type == (ATDD_ATTACH | ATDD_RESPONSE) &&
	    header->status != ATDD_AUTH_FAILURE)
		size += sizeof(struct atdd_attached);
	else if (header->type == (ATDD_READ | ATDD_RESPONSE) && header->status == ATDD_OK)
		size += ATDD_SECTOR_SIZE;
	error = await(connection, size + ATDD_TAG_SIZE, deadline);
	if (error)
		return error;
	if (!atdd_tag_is_right(connection, message_of(connection), size))
		return -EKEYREJECTED;
	*content = message_of(connection) + sizeof(*header);
	connection->in_start += size + ATDD_TAG_SIZE;
	/* A late one, or one that was recorded elsewhere. */
	if (be64_to_cpu(header->number) != connection->last_number)
		return -EAGAIN;
	return header->status == ATDD_AUTH_FAILURE ? -EKEYREJECTED : 0;
}

/* Reads a sector by the classic protocol: whether there is such a sector. */
static int probe(struct atdd_connection *connection, u64 sector, bool *exists)
{
	struct atdd_response_header header;
	const u8 *content;
	int error;

	error = send_all(connection, put_bare(connection, ATDD_READ, sector, connection->out));
	if (error)
		return error;
	error = await_response(connection, jiffies + OPEN_TIME, &header, &content);
	if (error)
		return error;
	if (header.type != (ATDD_READ | ATDD_RESPONSE))
		return -EPROTO;
	*exists = header.status == ATDD_OK;
	return 0;
}

/*
 * Whether the server knows attachments: then it answers a heartbeat, which a
 * classic one skips, and so answers a read alone.
 */
static int knows_attachments(struct atdd_connection *connection, bool *knows)
{
	struct atdd_response_header header = { };
	const u8 *content;
	int error;

	error = send_all(connection, put_bare(connection, ATDD_HEARTBEAT, 0, connection->out));
	if (error)
		return error;
	error = await_response(connection, jiffies + HEARTBEAT_TIME, &header, &content);
	if (error == -ETIMEDOUT && !received(connection)) {
		error = send_all(connection,
				 put_bare(connection, ATDD_READ, 0, connection->out));
		if (!error)
			error = await_response(connection, jiffies + ATTACH_TIME, &header,
					       &content);
	}
	*knows = header.type == (ATDD_HEARTBEAT | ATDD_RESPONSE);
	return error;
}

/* The size of a classic server's disk, which it tells by what it refuses. */
static int find_size(struct atdd_connection *connection, u64 *sectors)
{
	u64 low = 0, high = 1ULL << 48;

	while (low < high) {
		u64 middle = low + (high - low) / 2;
		bool exists;
		int error = probe(connection, middle, &exists);

		if (error)
			return error;
		if (exists)
			low = middle + 1;
		else
			high = middle;
	}
	*sectors = low;
	return 0;
}

static size_t put_attach(struct atdd_connection *connection, u8 *to)
{
	struct atdd_device *device = connection->device;
	struct atdd_attach *attach = (struct atdd_attach *)to;

	*attach = (struct atdd_attach) {
		.header.magic = cpu_to_be32(ATDD_MAGIC),
		.header.type = ATDD_ATTACH,
		.kind = ATDD_JOINABLE,
	};
	memcpy(attach->owner, device->owner, ATDD_OWNER_SIZE);
	memcpy(attach->join_key, device->join_key, sizeof(attach->join_key));
	spin_lock(&device->lock);
	attach->header.number = cpu_to_be64(next_number(connection));
	if (leads(connection) && device->generation) {
		attach->flags = ATDD_CONTINUES;
		attach->continues = cpu_to_be64(device->generation);
	} else if (leads(connection) && device->options.attach == ATDD_TAKING_OVER) {
		attach->flags = ATDD_TAKE_OVER;
	}
	spin_unlock(&device->lock);
	atdd_tag(connection, to, sizeof(*attach), to + sizeof(*attach));
	return sizeof(*attach) + ATDD_TAG_SIZE;
}

/* What the server's answer to an attach means. */
static int attach_error(struct atdd_device *device, u8 status,
			const struct atdd_attached *attached)
{
	switch (status) {
	case ATDD_OK:
		return 0;
	case ATDD_HELD:
		atdd_warn(device, "the disk is held by %.*s through process %u",
			  ATDD_NAME_SIZE, attached->name, attached->process);
		return -EBUSY;
	case ATDD_FENCED:
		return -ESTALE;
	case ATDD_CONTENDED:
	case ATDD_ELSEWHERE:
		return -EAGAIN;
	case ATDD_SHUTTING_DOWN:
		return -ESHUTDOWN;
	default:
		return -EPROTO;
	}
}

/* Attaches or joins; -EOPNOTSUPP says that the server is classic. */
static int attach(struct atdd_connection *connection, struct atdd_attached *attached)
{
	struct atdd_response_header header;
	const u8 *content;
	bool knows = false;
	int error;

	error = knows_attachments(connection, &knows);
	if (error)
		return error;
	if (!knows)
		return -EOPNOTSUPP;
	error = send_all(connection, put_attach(connection, connection->out));
	if (error)
		return error;
	error = await_response(connection, jiffies + ATTACH_TIME, &header, &content);
	if (error)
		return error;
	if (header.type != (ATDD_ATTACH | ATDD_RESPONSE))
		return -EPROTO;
	memcpy(attached, content, sizeof(*attached));
	return attach_error(connection->device, header.status, attached);
}

/* Takes the first attachment's word for the disk, or sees that it is the same. */
static int take_terms(struct atdd_connection *connection,
		      const struct atdd_attached *attached)
{
	struct atdd_device *device = connection->device;
	u64 sectors = be64_to_cpu(attached->sectors);
	u64 wanted = device->options.size_bytes >> ATDD_SECTOR_SHIFT;

	connection->generation = be64_to_cpu(attached->generation);
	connection->piece_max = min_t(u32, be32_to_cpu(attached->sectors_max),
				      ATDD_PIECE_SECTORS);
	if (!connection->piece_max || !connection->generation)
		return -EPROTO;
	atdd_enter_session(connection, attached->session);
	if (wanted > sectors) {
		atdd_warn(device, "size= is %llu sectors of 4096 bytes, and the disk has %llu",
			  wanted, sectors);
		return -ENOSPC;
	}
	if (!device->sectors) {
		device->sectors = wanted ?: sectors;
		device->discard_max = be32_to_cpu(attached->discard_max);
	} else if (sectors < device->sectors) {
		atdd_warn(device, "the disk has shrunk to %llu sectors", sectors);
		return -ENOSPC;
	}
	return 0;
}

/* The device has a server: whoever adds it may go on. */
static int announce(struct atdd_connection *connection)
{
	struct atdd_device *device = connection->device;

	if (READ_ONCE(device->state) != ATDD_OPENING)
		return 0;
	if (!device->sectors) {
		int error = find_size(connection, &device->sectors);

		if (error)
			return error;
	}
	if (!device->sectors)
		return -ENOSPC;
	atdd_info(device, "%s by process %u, %llu sectors of 4096 bytes",
		  device->classic ? "served by the classic protocol" : "attached",
		  connection->process + 1, device->sectors);
	spin_lock(&device->lock);
	if (device->state == ATDD_OPENING)
		device->state = ATDD_RUNNING;
	spin_unlock(&device->lock);
	complete(&device->opened);
	return 0;
}

/* The first connection attaches, or finds that it cannot. */
static int lead(struct atdd_connection *connection)
{
	struct atdd_device *device = connection->device;
	struct atdd_attached attached;
	int error = -EOPNOTSUPP;

	if (device->options.attach != ATDD_CLASSIC)
		error = attach(connection, &attached);
	if (!error)
		error = take_terms(connection, &attached);
	/*
	 * What was sent before may still be on its way to this process, and may
	 * be repeated only where that comes too late.
	 */
	if (!error && connection->generation <= device->generation)
		error = -EAGAIN;
	if (error == -EOPNOTSUPP && !device->generation) {
		if (!device->sectors)
			device->sectors = device->options.size_bytes >> ATDD_SECTOR_SHIFT;
		device->classic = true;
		error = 0;
	}
	if (!error)
		error = announce(connection);
	if (error)
		return error;

	spin_lock(&device->lock);
	device->attached = connection->attached;
	device->coordinator = connection->process;
	if (connection->attached)
		device->generation = connection->generation;
	connection->ready = true;
	atdd_kick(device);
	spin_unlock(&device->lock);
	wake_up_all(&device->changed);
	return 0;
}

/* Another one is of use only under the very generation that the first opened. */
static int follow(struct atdd_connection *connection)
{
	struct atdd_device *device = connection->device;
	struct atdd_attached attached;
	int error;

	if (!device->classic) {
		error = attach(connection, &attached);
		if (!error)
			error = take_terms(connection, &attached);
		if (error)
			return error;
	}
	spin_lock(&device->lock);
	error = -EAGAIN;
	if (device->classic || (device->attached &&
				device->generation == connection->generation)) {
		connection->ready = true;
		atdd_kick(device);
		error = 0;
	}
	spin_unlock(&device->lock);
	return error;
}

/* Serving */

/*
 * Takes the next message, if all of it is there; 0 if it is not, and how many
 * bytes are missing, once that can be known.
 */
static int take_message(struct atdd_connection *connection, size_t *missing)
{
	const struct atdd_response_header *header;
	size_t content = 0, size;
	int error = 0;

	*missing = 0;
	if (received(connection) < sizeof(*header))
		return 0;
	header = (const struct atdd_response_header *)message_of(connection);
	if (header->magic != cpu_to_be32(ATDD_MAGIC))
		return -EPROTO;
	if (header->type != (ATDD_HEARTBEAT | ATDD_RESPONSE))
		error = atdd_content_size(connection, header, &content);
	if (error)
		return error;
	size = sizeof(*header) + content;
	if (received(connection) < size + ATDD_TAG_SIZE) {
		*missing = size + ATDD_TAG_SIZE - received(connection);
		return 0;
	}
	if (!atdd_tag_is_right(connection, message_of(connection), size))
		return -EBADMSG;
	if (header->type != (ATDD_HEARTBEAT | ATDD_RESPONSE))
		error = atdd_take_answer(connection, header,
					 message_of(connection) + sizeof(*header));
	if (error)
		return error;
	connection->in_start += size + ATDD_TAG_SIZE;
	return 1;
}

/* Sees to it that the silence of either side has an end. */
static int watch(struct atdd_connection *connection)
{
	struct atdd_device *device = connection->device;
	unsigned long patience = connection->attached ? SILENCE : CLASSIC_SILENCE;
	bool waits = connection->attached ||
		     (READ_ONCE(connection->in_flight) && device->options.process_count > 1);

	if (!READ_ONCE(connection->in_flight) && !connection->attached)
		connection->last_received = jiffies;
	if (waits && time_after(jiffies, connection->last_received + patience))
		return -ETIMEDOUT;
	if (connection->attached &&
	    time_after(jiffies, READ_ONCE(connection->last_sent) + HEARTBEAT)) {
		WRITE_ONCE(connection->last_sent, jiffies);
		xchg(&connection->heartbeat, true);
		queue_work(device->send_queue, &connection->send_work);
	}
	return 0;
}

/* Receives until the connection is lost; says why. */
static int serve(struct atdd_connection *connection)
{
	while (!must_stop(connection)) {
		size_t missing;
		int error = take_message(connection, &missing);

		/* A request was given up: see atdd_timeout(). */
		if (!READ_ONCE(connection->ready))
			return -ECANCELED;
		if (!error) {
			error = receive(connection, missing);
			if (error >= 0)
				error = watch(connection);
		}
		if (error < 0)
			return error;
	}
	return -ESHUTDOWN;
}

/* Ends what depends on this connection, and puts back what it had in flight. */
static void end_session(struct atdd_connection *connection)
{
	struct atdd_device *device = connection->device;
	bool ends_all = false;
	unsigned int index;

	spin_lock(&device->lock);
	if (connection->ready && connection->attached && device->attached &&
	    connection->generation == device->generation) {
		device->attached = false;
		ends_all = true;
	}
	connection->ready = false;
	spin_unlock(&device->lock);
	for (index = 0; ends_all && index < device->connection_count; index++)
		shut_down(&device->connections[index]);
	cancel_work_sync(&connection->send_work);
	close_socket(connection);

	spin_lock(&device->lock);
	atdd_requeue(connection);
	connection->attached = false;
	atdd_kick(device);
	atdd_unlock(device);
	wake_up_all(&device->changed);
}

/* What the loss of a connection means, beyond another try. */
static void judge(struct atdd_connection *connection, int error)
{
	struct atdd_device *device = connection->device;

	if (must_stop(connection))
		return;
	switch (error) {
	case -ESHUTDOWN:
	case -EAGAIN:
	case -ECANCELED:
		return;
	case -EBUSY:
		/* Who holds the disk was said. */
		break;
	case -ESTALE:
		atdd_warn(device, "another client has taken the disk over, or it was released: its requests fail from now on; unmount and remove it");
		atdd_fail_all(device, ATDD_DEAD);
		break;
	case -EKEYREJECTED:
		atdd_warn(device, "process %u does not take the key: it is not the client key of this cluster",
			  connection->process + 1);
		break;
	case -EBADMSG:
		atdd_warn(device, "process %u answered with a wrong tag",
			  connection->process + 1);
		break;
	case -EPROTO:
		atdd_warn(device, "process %u answered what was not asked",
			  connection->process + 1);
		break;
	default:
		atdd_warn(device, "process %u (%pISpc): error %d", connection->process + 1,
			  address_of(connection), error);
	}
	spin_lock(&device->lock);
	device->open_error = error;
	spin_unlock(&device->lock);
	/* Who adds the device hears at once of what does not pass by itself. */
	if (device->state == ATDD_OPENING &&
	    (error == -EKEYREJECTED || error == -ENOSPC ||
	     (error == -EBUSY && time_after(jiffies, device->opening_since + HELD_TIME))))
		atdd_fail_all(device, ATDD_DEAD);
	if (device->state == ATDD_DEAD)
		complete(&device->opened);
	wake_up_all(&device->changed);
}

static void pause(struct atdd_connection *connection, unsigned int *pause_ms)
{
	unsigned int ms = *pause_ms / 2 + get_random_u32() % (*pause_ms / 2);

	wait_event_interruptible_timeout(connection->device->changed,
					 must_stop(connection), msecs_to_jiffies(ms));
	*pause_ms = min(2 * *pause_ms, PAUSE_MAX_MS);
}

/* Whether this connection may be opened now. */
static bool may_open(struct atdd_connection *connection)
{
	struct atdd_device *device = connection->device;

	return leads(connection) || READ_ONCE(device->classic) || READ_ONCE(device->attached);
}

/* Whether all others have put back what they had in flight. */
static bool is_last(struct atdd_connection *connection)
{
	struct atdd_device *device = connection->device;
	unsigned int index;

	for (index = 1; index < device->connection_count; index++)
		if (READ_ONCE(device->connections[index].attached))
			return false;
	return true;
}

static int connection_thread(void *data)
{
	struct atdd_connection *connection = data;
	struct atdd_device *device = connection->device;
	unsigned int noreclaim = memalloc_noreclaim_save();
	unsigned int pause_ms = PAUSE_MIN_MS;

	while (!must_stop(connection)) {
		int error;

		wait_event_interruptible(device->changed,
					 must_stop(connection) || may_open(connection));
		if (must_stop(connection))
			break;
		if (leads(connection))
			wait_event_interruptible(device->changed,
						 must_stop(connection) || is_last(connection));
		if (!leads(connection) && !device->classic)
			connection->process = READ_ONCE(device->coordinator);
		error = open_socket(connection);
		if (!error)
			error = leads(connection) ? lead(connection) : follow(connection);
		if (!error) {
			pause_ms = PAUSE_MIN_MS;
			error = serve(connection);
		}
		end_session(connection);
		judge(connection, error);
		if (error != -EAGAIN)
			connection->process = (connection->process + 1) %
					      device->options.process_count;
		pause(connection, &pause_ms);
	}
	memalloc_noreclaim_restore(noreclaim);
	/* kthread_stop() is on its way, and waits for the end of the thread. */
	while (!kthread_should_stop())
		wait_event_interruptible(device->changed, kthread_should_stop());
	return 0;
}

static int init_connection(struct atdd_device *device, unsigned int index)
{
	struct atdd_connection *connection = &device->connections[index];

	connection->device = device;
	connection->index = index;
	connection->process = index % device->options.process_count;
	mutex_init(&connection->mutex);
	INIT_WORK(&connection->send_work, send_work);
	connection->in = kvmalloc(BUFFER_SIZE, GFP_KERNEL);
	connection->out = kvmalloc(BUFFER_SIZE, GFP_KERNEL);
	return connection->in && connection->out ? 0 : -ENOMEM;
}

/* Starts the connections, and waits until the first has found a server. */
int atdd_connections_start(struct atdd_device *device)
{
	unsigned int index;
	long left;
	int error;

	device->connections = kvcalloc(device->options.connections,
				       sizeof(*device->connections), GFP_KERNEL);
	if (!device->connections)
		return -ENOMEM;
	device->connection_count = device->options.connections;
	device->opening_since = jiffies;
	device->send_queue = alloc_workqueue("atdd-%s", WQ_UNBOUND | WQ_MEM_RECLAIM |
					     WQ_HIGHPRI, 0, device->name);
	if (!device->send_queue)
		goto no_memory;
	for (index = 0; index < device->connection_count; index++) {
		error = init_connection(device, index);
		if (error)
			goto stop;
	}
	for (index = 0; index < device->connection_count; index++) {
		struct atdd_connection *connection = &device->connections[index];
		struct task_struct *thread;

		thread = kthread_run(connection_thread, connection, "atdd-%s/%u",
				     device->name, index);
		if (IS_ERR(thread)) {
			error = PTR_ERR(thread);
			goto stop;
		}
		connection->thread = thread;
	}

	left = wait_for_completion_killable_timeout(&device->opened, OPEN_TIME);
	if (left > 0 && device->state == ATDD_RUNNING)
		return 0;
	error = device->open_error ?: -ETIMEDOUT;
	if (left < 0)
		error = left;
	else if (error == -ETIMEDOUT || left == 0)
		pr_err("%s: no process could be used in %u s (error %d): are they running, do a majority reach one another, and is the key right?\n",
		       device->name, OPEN_TIME / HZ, error);
stop:
	atdd_connections_stop(device);
	return error;

no_memory:
	error = -ENOMEM;
	goto stop;
}

/* Ends all threads, whatever they wait for. Its requests have failed by now. */
void atdd_connections_stop(struct atdd_device *device)
{
	unsigned int index;

	atdd_fail_all(device, ATDD_REMOVED);
	wake_up_all(&device->changed);
	for (index = 0; index < device->connection_count; index++)
		if (device->connections[index].thread)
			shut_down(&device->connections[index]);
	for (index = 0; index < device->connection_count; index++) {
		struct atdd_connection *connection = &device->connections[index];

		if (connection->thread)
			kthread_stop(connection->thread);
	}
	if (device->send_queue)
		destroy_workqueue(device->send_queue);
	for (index = 0; index < device->connection_count; index++) {
		kvfree(device->connections[index].in);
		kvfree(device->connections[index].out);
	}
	kvfree(device->connections);
	device->connections = NULL;
	device->connection_count = 0;
}
