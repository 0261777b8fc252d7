// SPDX-License-Identifier: GPL-2.0-only
/*
 * Requests, from the moment they come to their end.
 *
 * What holds:
 * - A request is ended once, when all of its pieces are answered, or at the
 *   first that failed, or when its time is up; never while a thread copies
 *   from or to its pages.
 * - Two writes that overlap are never under way at once. A write whose
 *   connection was lost is sent again, and must not fall on top of a newer one.
 */
#include <linux/interval_tree_generic.h>

#include "atdd.h"

static u64 first_of(const struct atdd_request *request)
{
	return request->first;
}

static u64 last_of(const struct atdd_request *request)
{
	return request->first + request->count - 1;
}

INTERVAL_TREE_DEFINE(struct atdd_request, node, u64, subtree_last,
		     first_of, last_of, static __maybe_unused, writes)

static struct request *rq_of(struct atdd_request *request)
{
	return blk_mq_rq_from_pdu(request);
}

/* Whether an earlier write under way overlaps this one. */
static bool is_blocked(struct atdd_device *device, struct atdd_request *request)
{
	u64 first = request->first, last = last_of(request);
	struct atdd_request *other;

	for (other = writes_iter_first(&device->writes, first, last); other;
	     other = writes_iter_next(other, first, last))
		if (other->order < request->order)
			return true;
	return false;
}

/* Lets those go on that waited for a write that has ended. */
static void unblock(struct atdd_device *device)
{
	struct rb_node *node;

	if (!device->blocked)
		return;
	for (node = rb_first_cached(&device->writes); node; node = rb_next(node)) {
		struct atdd_request *request;

		request = rb_entry(node, struct atdd_request, node);
		if (!request->blocked || is_blocked(device, request))
			continue;
		request->blocked = false;
		device->blocked--;
		list_add_tail(&request->pending, &device->pending);
	}
}

/* Takes the request out of everything, so that nobody finds it any more. */
static void forget(struct atdd_device *device, struct atdd_request *request)
{
	struct request *rq = rq_of(request);
	unsigned int index, slot;

	list_del(&request->queued);
	list_del_init(&request->pending);
	if (request->blocked)
		device->blocked--;
	request->blocked = false;
	if (atdd_is_change(rq)) {
		writes_remove(request, &device->writes);
		unblock(device);
	}
	if (!request->left)
		return;
	for (index = 0; index < device->connection_count; index++) {
		struct atdd_connection *connection = &device->connections[index];

		for_each_set_bit(slot, connection->used, ATDD_SLOTS)
			if (connection->slots[slot].rq == rq)
				connection->slots[slot].rq = NULL;
	}
}

/* Ends the attachment: nothing more is sent under its generation. */
void atdd_end_attachment(struct atdd_device *device)
{
	unsigned int index;

	device->attached = false;
	for (index = 0; index < device->connection_count; index++)
		if (device->connections[index].attached)
			device->connections[index].ready = false;
}

/*
 * Ends the connections on which pieces of a change are under way that nobody
 * waits for any more: they must not come after a newer one. Those that share its
 * attachment end with them, so that the newer one is of a newer generation.
 */
static void abandon(struct atdd_device *device, struct request *rq)
{
	bool ends_attachment = false;
	unsigned int index, slot;

	for (index = 0; index < device->connection_count; index++) {
		struct atdd_connection *connection = &device->connections[index];
		bool has_it = false;

		for_each_set_bit(slot, connection->used, ATDD_SLOTS)
			has_it |= connection->slots[slot].rq == rq;
		if (has_it)
			connection->ready = false;
		ends_attachment |= has_it && connection->attached;
	}
	if (ends_attachment)
		atdd_end_attachment(device);
}

/*
 * Ends a request, as soon as nobody copies from or to its pages. Of one that
 * has failed, pieces may still be under way.
 */
void atdd_finish(struct atdd_device *device, struct atdd_request *request,
		 blk_status_t status)
{
	if (request->over)
		return;
	if (status && atdd_is_change(rq_of(request)))
		abandon(device, rq_of(request));
	forget(device, request);
	request->over = true;
	request->status = status;
	if (!request->pins)
		list_add_tail(&request->pending, &device->ended);
}

void atdd_unpin(struct atdd_device *device, struct atdd_request *request)
{
	if (!--request->pins && request->over)
		list_add_tail(&request->pending, &device->ended);
}

/* Unlocks, and completes what has ended: whoever hears of it may ask again. */
void atdd_unlock(struct atdd_device *device)
{
	struct atdd_request *request, *next;
	LIST_HEAD(ended);

	list_splice_init(&device->ended, &ended);
	spin_unlock(&device->lock);
	list_for_each_entry_safe(request, next, &ended, pending)
		blk_mq_complete_request(rq_of(request));
}

/*
 * Has what waits sent by a connection with room. Those to one process are filled
 * one after the other: what is there together is then sent, received and answered
 * together. Those to several are used alike.
 */
void atdd_kick(struct atdd_device *device)
{
	struct atdd_connection *best = NULL;
	unsigned int index;

	for (index = 0; index < device->connection_count; index++) {
		struct atdd_connection *connection = &device->connections[index];

		if (connection->ready && atdd_has_room(connection) &&
		    (!best || connection->load < best->load))
			best = connection;
		if (best && device->attached && best->load < ATDD_BUSY_LOAD)
			break;
	}
	if (best)
		queue_work(device->send_queue, &best->send_work);
}

/* Takes a request in; false says that there is no device for it any more. */
bool atdd_enqueue(struct atdd_device *device, struct atdd_request *request)
{
	bool taken = false;

	spin_lock(&device->lock);
	if (device->state != ATDD_RUNNING)
		goto unlock;
	taken = true;
	/* Its time runs from where it can be found. */
	blk_mq_start_request(rq_of(request));
	request->order = ++device->order;
	list_add_tail(&request->queued, &device->queued);
	if (atdd_is_change(rq_of(request))) {
		request->blocked = is_blocked(device, request);
		writes_insert(request, &device->writes);
	}
	if (request->blocked)
		device->blocked++;
	else
		list_add_tail(&request->pending, &device->pending);
	atdd_kick(device);
unlock:
	spin_unlock(&device->lock);
	return taken;
}

/* Ends a request whose time is up. */
void atdd_give_up(struct atdd_device *device, struct atdd_request *request)
{
	spin_lock(&device->lock);
	atdd_finish(device, request, BLK_STS_TIMEOUT);
	atdd_kick(device);
	atdd_unlock(device);
}

/* Ends every request with an error, now and from now on. */
void atdd_fail_all(struct atdd_device *device, enum atdd_state state)
{
	struct atdd_request *request, *next;

	spin_lock(&device->lock);
	device->state = state;
	list_for_each_entry_safe(request, next, &device->queued, queued)
		atdd_finish(device, request, BLK_STS_IOERR);
	atdd_unlock(device);
}
