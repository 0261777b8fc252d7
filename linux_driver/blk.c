// SPDX-License-Identifier: GPL-2.0-only
/*
 * The block device: requests of the block layer, and their pieces.
 *
 * What holds:
 * - A request is ended once, when all of its pieces are answered, or at the
 *   first that failed, or when its time is up; never while a thread copies
 *   from or to its pages.
 * - Two writes that overlap are never under way at once. A write whose
 *   connection was lost is sent again, and must not fall on top of a newer one.
 * - An answer is taken only if it fits a piece that is in flight on the very
 *   connection that it comes from.
 */
#include <linux/blkdev.h>
#include <linux/highmem.h>
#include <linux/interval_tree_generic.h>
#include <linux/module.h>

#include "atdd.h"
#include "compat.h"

/* The disk without a number: its partitions have the names of numbered ones. */
static struct gendisk *plain_disk;
static unsigned int numbered_disks;
static DEFINE_MUTEX(names_lock);

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

static bool is_change(struct request *rq)
{
	return req_op(rq) != REQ_OP_READ;
}

static bool has_data(struct request *rq)
{
	return req_op(rq) == REQ_OP_READ || req_op(rq) == REQ_OP_WRITE;
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
	if (is_change(rq)) {
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

/* Ends a request, as soon as nobody copies from or to its pages. */
static void finish(struct atdd_device *device, struct atdd_request *request,
		   blk_status_t status)
{
	if (request->over)
		return;
	forget(device, request);
	request->over = true;
	request->status = status;
	if (!request->pins)
		list_add_tail(&request->pending, &device->ended);
}

static void unpin(struct atdd_device *device, struct atdd_request *request)
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

void atdd_kick(struct atdd_device *device)
{
	struct atdd_connection *best = NULL;
	unsigned int index;

	for (index = 0; index < device->connection_count; index++) {
		struct atdd_connection *connection = &device->connections[index];

		if (connection->ready && connection->in_flight < ATDD_SLOTS &&
		    (!best || connection->in_flight < best->in_flight))
			best = connection;
	}
	if (best)
		queue_work(device->send_queue, &best->send_work);
}

static blk_status_t atdd_queue_rq(struct blk_mq_hw_ctx *hctx,
				  const struct blk_mq_queue_data *data)
{
	struct request *rq = data->rq;
	struct atdd_request *request = blk_mq_rq_to_pdu(rq);
	struct atdd_device *device = hctx->queue->queuedata;
	unsigned int shift = ATDD_SECTOR_SHIFT - SECTOR_SHIFT;
	blk_status_t status = BLK_STS_OK;

	request->first = blk_rq_pos(rq) >> shift;
	request->count = blk_rq_sectors(rq) >> shift;
	request->units = has_data(rq) ? request->count : 1;
	request->left = request->units;
	request->pins = 0;
	request->over = false;
	request->blocked = false;
	INIT_LIST_HEAD(&request->pending);
	if (WARN_ON_ONCE(!request->count || request->units > ATDD_REQUEST_SECTORS))
		return BLK_STS_IOERR;
	bitmap_zero(request->todo, ATDD_REQUEST_SECTORS);
	bitmap_set(request->todo, 0, request->units);

	blk_mq_start_request(rq);
	spin_lock(&device->lock);
	if (device->state != ATDD_RUNNING) {
		status = BLK_STS_IOERR;
		goto unlock;
	}
	request->order = ++device->order;
	list_add_tail(&request->queued, &device->queued);
	if (is_change(rq)) {
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
	return status;
}

static void atdd_complete_rq(struct request *rq)
{
	struct atdd_request *request = blk_mq_rq_to_pdu(rq);

	blk_mq_end_request(rq, request->status);
}

/*
 * Ends the connections on which a change is under way that nobody waits for any
 * more: it must not come after a newer one. Those that share its attachment
 * end with them, so that the newer one is of a newer generation.
 */
static void abandon(struct atdd_device *device, struct request *rq)
{
	unsigned int index, slot;

	for (index = 0; index < device->connection_count; index++) {
		struct atdd_connection *connection = &device->connections[index];
		bool has_it = false;

		for_each_set_bit(slot, connection->used, ATDD_SLOTS)
			has_it |= connection->slots[slot].rq == rq;
		if (has_it && connection->attached)
			device->attached = false;
		if (has_it)
			connection->ready = false;
	}
	for (index = 0; index < device->connection_count; index++)
		if (device->connections[index].attached && !device->attached)
			device->connections[index].ready = false;
}

static enum blk_eh_timer_return atdd_timeout(struct request *rq)
{
	struct atdd_request *request = blk_mq_rq_to_pdu(rq);
	struct atdd_device *device = rq->q->queuedata;

	if (!device->options.timeout_s)
		return BLK_EH_RESET_TIMER;
	dev_err_ratelimited(disk_to_dev(device->disk),
			    "no majority of processes answered in %u s\n",
			    device->options.timeout_s);
	spin_lock(&device->lock);
	if (is_change(rq))
		abandon(device, rq);
	finish(device, request, BLK_STS_TIMEOUT);
	atdd_kick(device);
	atdd_unlock(device);
	return BLK_EH_DONE;
}

/* The type of a piece's message on this connection, and its most units. */
static u8 type_of(struct atdd_connection *connection, struct request *rq,
		  unsigned int *units_max)
{
	*units_max = connection->attached ? connection->piece_max : 1;
	switch (req_op(rq)) {
	case REQ_OP_READ:
		return connection->attached ? ATDD_READ_RANGE : ATDD_READ;
	case REQ_OP_WRITE:
		return connection->attached ? ATDD_WRITE_RANGE : ATDD_WRITE;
	default:
		return ATDD_DISCARD;
	}
}

/*
 * Takes a piece of what waits, if its message has room in `room` bytes. Its
 * request is pinned until atdd_put_piece().
 */
bool atdd_take_piece(struct atdd_connection *connection, size_t room,
		     struct atdd_piece *piece)
{
	struct atdd_device *device = connection->device;
	unsigned int unit, units, index, units_max;
	struct atdd_request *request;
	bool taken = false;
	size_t content = 0;
	struct request *rq;
	u8 type;

	spin_lock(&device->lock);
	request = list_first_entry_or_null(&device->pending, struct atdd_request,
					   pending);
	index = find_first_zero_bit(connection->used, ATDD_SLOTS);
	if (!connection->ready || !request || index == ATDD_SLOTS)
		goto unlock;
	rq = rq_of(request);
	type = type_of(connection, rq, &units_max);
	unit = find_first_bit(request->todo, request->units);
	units = find_next_zero_bit(request->todo, request->units, unit) - unit;
	units = min(units, units_max);
	if (req_op(rq) == REQ_OP_WRITE)
		content = (size_t)units << ATDD_SECTOR_SHIFT;
	if (sizeof(struct atdd_range) + content + ATDD_TAG_SIZE > room)
		goto unlock;

	bitmap_clear(request->todo, unit, units);
	if (bitmap_empty(request->todo, request->units))
		list_del_init(&request->pending);
	request->pins++;
	/* Numbers rise, and their low bits are the index. */
	connection->last_number = (connection->last_number | 0xff) + 1 + index;
	__set_bit(index, connection->used);
	connection->in_flight++;
	connection->slots[index] = (struct atdd_slot) {
		.rq = rq,
		.number = connection->last_number,
		.unit = unit,
		.units = units,
		.type = type,
	};
	*piece = (struct atdd_piece) {
		.rq = rq,
		.number = connection->last_number,
		.first = request->first + unit,
		.count = has_data(rq) ? units : request->count,
		.unit = unit,
		.units = units,
		.type = type,
	};
	taken = true;
unlock:
	spin_unlock(&device->lock);
	return taken;
}

/* Copies between the content of a piece and a buffer. */
static void copy_content(struct request *rq, unsigned int unit, unsigned int units,
			 u8 *buffer)
{
	size_t skip = (size_t)unit << ATDD_SECTOR_SHIFT;
	size_t left = (size_t)units << ATDD_SECTOR_SHIFT;
	struct req_iterator iter;
	struct bio_vec vec;

	rq_for_each_segment(vec, rq, iter) {
		size_t length = vec.bv_len;

		if (skip >= length) {
			skip -= length;
			continue;
		}
		vec.bv_offset += skip;
		vec.bv_len = min(length - skip, left);
		skip = 0;
		if (req_op(rq) == REQ_OP_WRITE)
			memcpy_from_bvec(buffer, &vec);
		else
			memcpy_to_bvec(&vec, buffer);
		buffer += vec.bv_len;
		left -= vec.bv_len;
		if (!left)
			break;
	}
}

/*
 * Writes the message of a piece, with its tag, and lets go of the request: it
 * is sent from the copy, which nobody changes after the tag was taken.
 */
size_t atdd_put_piece(struct atdd_connection *connection,
		      const struct atdd_piece *piece, u8 *to)
{
	struct atdd_device *device = connection->device;
	struct atdd_range *range = (struct atdd_range *)to;
	size_t size = sizeof(range->header);

	range->header = (struct atdd_request_header) {
		.magic = cpu_to_be32(ATDD_MAGIC),
		.type = piece->type,
		.number = cpu_to_be64(piece->number),
		.sector = cpu_to_be64(piece->first),
	};
	if (piece->type >= ATDD_ATTACH) {
		range->count = cpu_to_be32(piece->count);
		range->zero = 0;
		size = sizeof(*range);
	}
	if (req_op(piece->rq) == REQ_OP_WRITE) {
		copy_content(piece->rq, piece->unit, piece->units, to + size);
		size += (size_t)piece->units << ATDD_SECTOR_SHIFT;
	}
	spin_lock(&device->lock);
	unpin(device, blk_mq_rq_to_pdu(piece->rq));
	atdd_unlock(device);
	atdd_tag(connection, to, size, to + size);
	return size + ATDD_TAG_SIZE;
}

/* The slot that a response is for, or NULL. */
static struct atdd_slot *slot_of(struct atdd_connection *connection,
				 const struct atdd_response_header *header)
{
	u64 number = be64_to_cpu(header->number);
	unsigned int index = number & 0xff;
	struct atdd_slot *slot = &connection->slots[index];

	if (index >= ATDD_SLOTS || !number || slot->number != number ||
	    header->type != slot->type + ATDD_RESPONSE)
		return NULL;
	return slot;
}

/* How long the content of a response is, if it answers what is in flight here. */
int atdd_content_size(struct atdd_connection *connection,
		      const struct atdd_response_header *header, size_t *size)
{
	struct atdd_device *device = connection->device;
	struct atdd_slot *slot;
	int error = 0;

	*size = 0;
	spin_lock(&device->lock);
	slot = slot_of(connection, header);
	if (!slot)
		error = -EPROTO;
	else if (header->status == ATDD_OK &&
		 (slot->type == ATDD_READ || slot->type == ATDD_READ_RANGE))
		*size = (size_t)slot->units << ATDD_SECTOR_SHIFT;
	spin_unlock(&device->lock);
	return error;
}

/* What a status means to the block layer; an error where it ends the connection. */
static int status_of(struct atdd_device *device, u8 status, blk_status_t *result)
{
	switch (status) {
	case ATDD_OK:
		*result = BLK_STS_OK;
		return 0;
	case ATDD_INVALID_SECTOR:
		atdd_warn(device, "a request is past the end of the disk: is size= too large?");
		*result = BLK_STS_IOERR;
		return 0;
	case ATDD_UNREADABLE:
		atdd_warn(device, "no majority of intact copies is left of a sector");
		*result = BLK_STS_MEDIUM;
		return 0;
	case ATDD_TIMED_OUT:
		atdd_warn(device, "no majority of processes answered before the operator's deadline");
		*result = BLK_STS_TIMEOUT;
		return 0;
	case ATDD_FENCED:
		return -ESTALE;
	case ATDD_AUTH_FAILURE:
		return -EKEYREJECTED;
	case ATDD_SHUTTING_DOWN:
		return -ESHUTDOWN;
	default:
		return -EPROTO;
	}
}

/*
 * Takes an answer whose tag is right. An error says that the connection is no
 * good: then the piece is still in its slot.
 */
int atdd_take_answer(struct atdd_connection *connection,
		     const struct atdd_response_header *header, const u8 *content)
{
	struct atdd_device *device = connection->device;
	struct atdd_request *request;
	struct atdd_slot *slot;
	blk_status_t status;
	struct request *rq;
	int error;

	error = status_of(device, header->status, &status);
	if (error)
		return error;
	spin_lock(&device->lock);
	slot = slot_of(connection, header);
	if (!slot) {
		error = -EPROTO;
		goto unlock;
	}
	rq = slot->rq;
	if (rq && req_op(rq) == REQ_OP_READ && !status) {
		request = blk_mq_rq_to_pdu(rq);
		request->pins++;
		spin_unlock(&device->lock);
		copy_content(rq, slot->unit, slot->units, (u8 *)content);
		spin_lock(&device->lock);
		unpin(device, request);
		/* Its time may have run out meanwhile. */
		rq = slot->rq;
	}
	slot->number = 0;
	slot->rq = NULL;
	__clear_bit(slot - connection->slots, connection->used);
	connection->in_flight--;
	if (rq) {
		request = blk_mq_rq_to_pdu(rq);
		request->left -= slot->units;
		if (status || !request->left)
			finish(device, request, status);
	}
	if (!list_empty(&device->pending))
		atdd_kick(device);
unlock:
	atdd_unlock(device);
	return error;
}

/* Puts what is in flight on a lost connection back, before all that waits. */
void atdd_requeue(struct atdd_connection *connection)
{
	struct atdd_device *device = connection->device;
	unsigned int index;

	for_each_set_bit(index, connection->used, ATDD_SLOTS) {
		struct atdd_slot *slot = &connection->slots[index];

		if (slot->rq) {
			struct atdd_request *request = blk_mq_rq_to_pdu(slot->rq);

			bitmap_set(request->todo, slot->unit, slot->units);
			if (list_empty(&request->pending))
				list_add(&request->pending, &device->pending);
		}
		slot->rq = NULL;
		slot->number = 0;
	}
	bitmap_zero(connection->used, ATDD_SLOTS);
	connection->in_flight = 0;
}

/* Ends every request with an error, now and from now on. */
void atdd_fail_all(struct atdd_device *device, enum atdd_state state)
{
	struct atdd_request *request, *next;

	spin_lock(&device->lock);
	device->state = state;
	list_for_each_entry_safe(request, next, &device->queued, queued)
		finish(device, request, BLK_STS_IOERR);
	atdd_unlock(device);
}

static const struct blk_mq_ops atdd_mq_ops = {
	.queue_rq	= atdd_queue_rq,
	.complete	= atdd_complete_rq,
	.timeout	= atdd_timeout,
};

static const struct block_device_operations atdd_fops = {
	.owner		= THIS_MODULE,
};

/*
 * Partition 1 of the disk "atdd" and the disk "atdd1" have one name. So the
 * first has no partitions while there are others, and no others come while it
 * has some.
 */
static int claim_name(struct atdd_device *device)
{
	struct block_device *part;
	unsigned long index;

	if (!strcmp(device->name, "atdd")) {
		plain_disk = device->disk;
		if (numbered_disks)
			plain_disk->flags |= GENHD_FL_NO_PART;
		return 0;
	}
	if (plain_disk) {
		plain_disk->flags |= GENHD_FL_NO_PART;
		xa_for_each_start(&plain_disk->part_tbl, index, part, 1) {
			if (!numbered_disks)
				plain_disk->flags &= ~GENHD_FL_NO_PART;
			pr_err("%s: the partitions of the disk atdd have such names: remove them, or use numbered disks only\n",
			       device->name);
			return -EEXIST;
		}
	}
	numbered_disks++;
	return 0;
}

static void give_name_back(struct atdd_device *device)
{
	if (!strcmp(device->name, "atdd"))
		plain_disk = NULL;
	else
		numbered_disks--;
	if (plain_disk && !numbered_disks)
		plain_disk->flags &= ~GENHD_FL_NO_PART;
}

/* Adds the disk of a device that knows its size. */
int atdd_blk_add(struct atdd_device *device)
{
	unsigned int shift = ATDD_SECTOR_SHIFT - SECTOR_SHIFT;
	u32 discard_max = min_t(u32, device->discard_max, UINT_MAX >> ATDD_SECTOR_SHIFT);
	struct atdd_limits limits = {
		.sector_size = ATDD_SECTOR_SIZE,
		.request_sectors = ATDD_REQUEST_SECTORS << shift,
		.discard_sectors = discard_max << shift,
	};
	struct gendisk *disk;
	int error;

	device->tags = (struct blk_mq_tag_set) {
		.ops = &atdd_mq_ops,
		.nr_hw_queues = 1,
		.queue_depth = device->options.queue_depth,
		.numa_node = NUMA_NO_NODE,
		.cmd_size = sizeof(struct atdd_request),
		.flags = BLK_MQ_F_SHOULD_MERGE,
		.timeout = (device->options.timeout_s ?: 60) * HZ,
	};
	error = blk_mq_alloc_tag_set(&device->tags);
	if (error)
		return error;
	disk = atdd_alloc_disk(&device->tags, &limits, device);
	if (IS_ERR(disk)) {
		error = PTR_ERR(disk);
		goto free_tags;
	}
	disk->fops = &atdd_fops;
	disk->private_data = device;
	strscpy(disk->disk_name, device->name, sizeof(disk->disk_name));
	set_capacity(disk, device->sectors << shift);
	device->disk = disk;

	mutex_lock(&names_lock);
	error = claim_name(device);
	mutex_unlock(&names_lock);
	if (error)
		goto put_disk;
	error = device_add_disk(NULL, disk, NULL);
	if (error)
		goto give_name_back;
	return 0;

give_name_back:
	mutex_lock(&names_lock);
	give_name_back(device);
	mutex_unlock(&names_lock);
put_disk:
	device->disk = NULL;
	put_disk(disk);
free_tags:
	blk_mq_free_tag_set(&device->tags);
	return error;
}

/* Removes the disk, whose requests fail by now. */
void atdd_blk_remove(struct atdd_device *device)
{
	del_gendisk(device->disk);
	mutex_lock(&names_lock);
	give_name_back(device);
	mutex_unlock(&names_lock);
	put_disk(device->disk);
	blk_mq_free_tag_set(&device->tags);
}
