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
#include <linux/random.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <net/tcp.h>

#include "atdd.h"

/* After so long without sending, or receiving, a heartbeat is sent. */
#define HEARTBEAT	(HZ / 2)
/* An attached server that shows no life for so long is lost: it answers heartbeats. */
#define SILENCE		(2 * HZ)
/*
 * One that has no heartbeats may only be slow, or lack a majority; but some requests
 * it never answers, such as those whose time was up there.
 */
#define CLASSIC_PATIENCE	(30 * HZ)
/* Whoever seems to hold the disk may be this host, before it went down. */
#define HELD_TIME	(10 * HZ)
#define PAUSE_MIN_MS	50
#define PAUSE_MAX_MS	1000

bool atdd_must_stop(struct atdd_connection *connection)
{
	return kthread_should_stop() ||
	       READ_ONCE(connection->device->state) >= ATDD_DEAD;
}

bool atdd_leads(struct atdd_connection *connection)
{
	return connection->index == 0;
}

static size_t put_heartbeat(struct atdd_connection *connection)
{
	size_t size = atdd_put_bare(connection, ATDD_HEARTBEAT, 0, connection->out);

	spin_lock(&connection->device->lock);
	if (!connection->probe) {
		connection->probe = connection->last_number;
		connection->probe_end = atdd_bytes_sent(connection) + size;
	}
	spin_unlock(&connection->device->lock);
	return size;
}

static void take_heartbeat(struct atdd_connection *connection, u64 number)
{
	spin_lock(&connection->device->lock);
	if (connection->probe == number)
		connection->probe = 0;
	spin_unlock(&connection->device->lock);
}

/* Fills the buffer with all that there is to send and that it has room for. */
static size_t fill(struct atdd_connection *connection)
{
	struct atdd_piece piece;
	size_t size = 0;

	if (xchg(&connection->heartbeat, false))
		size = put_heartbeat(connection);
	while (atdd_take_piece(connection, ATDD_BUFFER_SIZE - size, &piece))
		size += atdd_put_piece(connection, &piece, connection->out + size);
	return size;
}

static void send_work(struct work_struct *work)
{
	struct atdd_connection *connection;
	unsigned int noreclaim = memalloc_noreclaim_save();
	struct atdd_device *device;
	size_t size;

	connection = container_of(work, struct atdd_connection, send_work);
	device = connection->device;
	while ((size = fill(connection))) {
		if (atdd_send_all(connection, size)) {
			/* The thread puts all of it back. */
			atdd_shut_down(connection);
			break;
		}
	}
	spin_lock(&device->lock);
	/* It may have no room left, and others may have. */
	if (!list_empty(&device->pending))
		atdd_kick(device);
	spin_unlock(&device->lock);
	memalloc_noreclaim_restore(noreclaim);
}

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
	if (atdd_received(connection) < sizeof(*header))
		return 0;
	header = (const struct atdd_response_header *)atdd_message_of(connection);
	if (header->magic != cpu_to_be32(ATDD_MAGIC))
		return -EPROTO;
	if (header->type != (ATDD_HEARTBEAT | ATDD_RESPONSE))
		error = atdd_content_size(connection, header, &content);
	if (error)
		return error;
	size = sizeof(*header) + content;
	if (atdd_received(connection) < size + ATDD_TAG_SIZE) {
		*missing = size + ATDD_TAG_SIZE - atdd_received(connection);
		return 0;
	}
	if (!atdd_tag_is_right(connection, atdd_message_of(connection), size))
		return -EBADMSG;
	if (header->type == (ATDD_HEARTBEAT | ATDD_RESPONSE))
		take_heartbeat(connection, be64_to_cpu(header->number));
	else
		error = atdd_take_answer(connection, header,
					 atdd_message_of(connection) + sizeof(*header));
	if (error)
		return error;
	connection->in_start += size + ATDD_TAG_SIZE;
	return 1;
}

/*
 * Whether an attached server is lost. Over a slow link a piece takes longer than
 * one may be silent: that bytes are taken is a sign of life, too. But the host of
 * a process that is paused goes on taking them, so it is none once a heartbeat
 * was taken and is not answered.
 */
static bool is_lost(struct atdd_connection *connection, bool *asked)
{
	u32 taken = atdd_bytes_taken(connection);

	spin_lock(&connection->device->lock);
	*asked = connection->probe;
	if (taken != connection->last_taken &&
	    (!*asked || before(connection->last_taken, connection->probe_end)))
		connection->last_life = jiffies;
	spin_unlock(&connection->device->lock);
	connection->last_taken = taken;
	if (time_after(connection->last_received, connection->last_life))
		connection->last_life = connection->last_received;
	return time_after(jiffies, connection->last_life + SILENCE);
}

/*
 * Whether something on an unattached connection waits for too long: while nothing
 * came, or while things were answered that were sent long after it.
 */
static bool is_overdue(struct atdd_connection *connection)
{
	unsigned long silence_end = connection->last_received + CLASSIC_PATIENCE;
	bool overdue = false;
	unsigned int index;

	if (!time_after(jiffies, connection->last_check + HZ))
		return false;
	connection->last_check = jiffies;
	spin_lock(&connection->device->lock);
	for_each_set_bit(index, connection->used, ATDD_SLOTS) {
		unsigned long end = connection->slots[index].sent + CLASSIC_PATIENCE;

		overdue |= time_after(connection->last_answered, end) ||
			   (time_after(jiffies, end) && time_after(jiffies, silence_end));
	}
	spin_unlock(&connection->device->lock);
	return overdue;
}

/* Sees to it that the silence of either side has an end. */
static int watch(struct atdd_connection *connection)
{
	struct atdd_device *device = connection->device;
	bool asked;

	if (!connection->attached)
		return is_overdue(connection) ? -ETIMEDOUT : 0;
	if (is_lost(connection, &asked))
		return -ETIMEDOUT;
	if (time_after(jiffies, READ_ONCE(connection->last_sent) + HEARTBEAT) ||
	    (!asked && time_after(jiffies, connection->last_received + HEARTBEAT))) {
		WRITE_ONCE(connection->last_sent, jiffies);
		xchg(&connection->heartbeat, true);
		queue_work(device->send_queue, &connection->send_work);
	}
	return 0;
}

/* Receives until the connection is lost; says why. */
static int serve(struct atdd_connection *connection)
{
	while (!atdd_must_stop(connection)) {
		size_t missing;
		int error = take_message(connection, &missing);

		/* A request was given up: see atdd_timeout(). */
		if (!READ_ONCE(connection->ready))
			return -ECANCELED;
		if (!error) {
			error = atdd_receive(connection, missing);
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
		/* At once: what is put back must not go out on another of them. */
		atdd_end_attachment(device);
		ends_all = true;
	}
	connection->ready = false;
	spin_unlock(&device->lock);
	/* The send work may wait for a server that reads no more. */
	atdd_shut_down(connection);
	for (index = 0; ends_all && index < device->connection_count; index++)
		atdd_shut_down(&device->connections[index]);
	cancel_work_sync(&connection->send_work);
	atdd_close_socket(connection);

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

	if (atdd_must_stop(connection))
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
	case -ECONNRESET:
		if (device->classic || device->options.attach == ATDD_CLASSIC)
			atdd_warn(device, "process %u has ended the connection; it does so to all who do not attach while a client has the disk exclusively",
				  connection->process + 1);
		else
			atdd_warn(device, "process %u has ended the connection",
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
			  atdd_address_of(connection), error);
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
					 atdd_must_stop(connection), msecs_to_jiffies(ms));
	*pause_ms = min(2 * *pause_ms, PAUSE_MAX_MS);
}

/* Whether this connection may be opened now. */
static bool may_open(struct atdd_connection *connection)
{
	struct atdd_device *device = connection->device;

	return atdd_leads(connection) || READ_ONCE(device->classic) || READ_ONCE(device->attached);
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

	while (!atdd_must_stop(connection)) {
		int error;

		wait_event_interruptible(device->changed,
					 atdd_must_stop(connection) || may_open(connection));
		if (atdd_must_stop(connection))
			break;
		if (atdd_leads(connection))
			wait_event_interruptible(device->changed,
						 atdd_must_stop(connection) || is_last(connection));
		if (!atdd_leads(connection) && !device->classic)
			connection->process = READ_ONCE(device->coordinator);
		error = atdd_open_socket(connection);
		if (!error)
			error = atdd_open_session(connection);
		if (!error) {
			unsigned long begin = jiffies;

			error = serve(connection);
			if (time_after(jiffies, begin + HZ))
				pause_ms = PAUSE_MIN_MS;
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
	connection->in = kvmalloc(ATDD_BUFFER_SIZE, GFP_KERNEL);
	connection->out = kvmalloc(ATDD_BUFFER_SIZE, GFP_KERNEL);
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

	left = wait_for_completion_killable_timeout(&device->opened, ATDD_OPEN_TIME);
	if (left > 0 && device->state == ATDD_RUNNING)
		return 0;
	error = device->open_error ?: -ETIMEDOUT;
	if (left < 0)
		error = left;
	else if (error == -ETIMEDOUT || left == 0)
		pr_err("%s: no process could be used in %u s (error %d): are they running, do a majority reach one another, and is the key right?\n",
		       device->name, ATDD_OPEN_TIME / HZ, error);
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
			atdd_shut_down(&device->connections[index]);
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
