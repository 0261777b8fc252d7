// SPDX-License-Identifier: GPL-2.0-only
/*
 * The pieces of requests, as they are sent, and their answers: an answer is
 * taken only if it fits a piece that is in flight on the very connection that it
 * comes from.
 */
#include <linux/blkdev.h>
#include <linux/highmem.h>

#include "atdd.h"

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
	if (!connection->ready || !request || !atdd_has_room(connection))
		goto unlock;
	index = find_first_zero_bit(connection->used, ATDD_SLOTS);
	rq = blk_mq_rq_from_pdu(request);
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
	connection->load += units;
	connection->slots[index] = (struct atdd_slot) {
		.rq = rq,
		.number = connection->last_number,
		.sent = jiffies,
		.unit = unit,
		.units = units,
		.type = type,
	};
	*piece = (struct atdd_piece) {
		.rq = rq,
		.number = connection->last_number,
		.first = request->first + unit,
		.count = atdd_has_data(rq) ? units : request->count,
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
	atdd_unpin(device, blk_mq_rq_to_pdu(piece->rq));
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
		/* The generation is over: attaching shows if by somebody else. */
		return -EAGAIN;
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
		atdd_unpin(device, request);
		/* Its time may have run out meanwhile. */
		rq = slot->rq;
	}
	if (rq) {
		request = blk_mq_rq_to_pdu(rq);
		request->left -= slot->units;
		/* A change that has failed may still come: it counts as under way. */
		if (status || !request->left)
			atdd_finish(device, request, status);
	}
	if (time_after(slot->sent, connection->last_answered))
		connection->last_answered = slot->sent;
	slot->number = 0;
	slot->rq = NULL;
	__clear_bit(slot - connection->slots, connection->used);
	connection->in_flight--;
	connection->load -= slot->units;
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
	connection->load = 0;
}
