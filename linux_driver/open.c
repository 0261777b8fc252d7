// SPDX-License-Identifier: GPL-2.0-only
/*
 * What is said on a connection before it takes requests: whether the server
 * knows attachments, attaching or joining, and the size of the disk.
 */
#include <linux/wait.h>

#include "atdd.h"

/* A hello needs nobody but the server. */
#define HELLO_TIME	(HZ / 2)
/* An attach waits for a majority; another process may have one. */
#define ATTACH_TIME	(3 * HZ)

static u64 next_number(struct atdd_connection *connection)
{
	/* Not of a slot: see atdd_take_piece(). */
	connection->last_number = ((connection->last_number | 0xff) + 1) | 0xff;
	return connection->last_number;
}

size_t atdd_put_bare(struct atdd_connection *connection, u8 type, u64 sector, u8 *to)
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

static int send_bare(struct atdd_connection *connection, u8 type, u64 sector)
{
	size_t size = atdd_put_bare(connection, type, sector, connection->out);

	return atdd_send_all(connection, size);
}

/*
 * Waits for the response to what was sent last, outside of the slots, and gives
 * its content.
 */
static int await_response(struct atdd_connection *connection, unsigned long deadline,
			  struct atdd_response_header *header, const u8 **content)
{
	size_t size = sizeof(*header);
	int error = atdd_await(connection, size, deadline);

	if (error)
		return error;
	*header = *(struct atdd_response_header *)atdd_message_of(connection);
	if (header->magic != cpu_to_be32(ATDD_MAGIC))
		return -EPROTO;
	if (header->type == (ATDD_ATTACH | ATDD_RESPONSE) &&
	    header->status != ATDD_AUTH_FAILURE)
		size += sizeof(struct atdd_attached);
	else if (header->type == (ATDD_READ | ATDD_RESPONSE) && header->status == ATDD_OK)
		size += ATDD_SECTOR_SIZE;
	else if (header->type == (ATDD_HELLO | ATDD_RESPONSE) && header->status == ATDD_OK)
		size += ATDD_SESSION_SIZE;
	error = atdd_await(connection, size + ATDD_TAG_SIZE, deadline);
	if (error)
		return error;
	if (!atdd_tag_is_right(connection, atdd_message_of(connection), size))
		return -EKEYREJECTED;
	*content = atdd_message_of(connection) + sizeof(*header);
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

	error = send_bare(connection, ATDD_READ, sector);
	if (error)
		return error;
	error = await_response(connection, jiffies + ATDD_OPEN_TIME, &header, &content);
	if (error)
		return error;
	if (header.type != (ATDD_READ | ATDD_RESPONSE))
		return -EPROTO;
	*exists = header.status == ATDD_OK;
	return 0;
}

/*
 * Takes a session, if the server knows attachments: then it answers a hello,
 * which a classic one skips, and so answers a read alone; -EOPNOTSUPP says so.
 * Once a server of the cluster has answered a hello, no read is sent any more:
 * read by nobody who is attached, it would fence this very device, if its
 * attachment has just ended.
 */
static int say_hello(struct atdd_connection *connection, u8 session[ATDD_SESSION_SIZE])
{
	struct atdd_device *device = connection->device;
	bool extended = READ_ONCE(device->extended) || device->options.attach != ATDD_AUTO;
	struct atdd_response_header header = { };
	unsigned long patience = extended ? ATTACH_TIME : HELLO_TIME;
	const u8 *content;
	bool knows;
	int error;

	error = send_bare(connection, ATDD_HELLO, 0);
	if (error)
		return error;
	error = await_response(connection, jiffies + patience, &header, &content);
	if (error == -ETIMEDOUT && !extended && !atdd_received(connection)) {
		error = send_bare(connection, ATDD_READ, 0);
		if (!error)
			error = await_response(connection, jiffies + ATTACH_TIME, &header,
					       &content);
	}
	/* A late answer is one, too: the next connection waits for it. */
	knows = header.type == (ATDD_HELLO | ATDD_RESPONSE);
	if (knows && (!error || error == -EAGAIN))
		WRITE_ONCE(device->extended, true);
	if (error == -ETIMEDOUT && !READ_ONCE(device->extended))
		atdd_warn(device, "process %u does not answer a HELLO: if it knows the classic protocol only, use attach=classic",
			  connection->process + 1);
	if (error)
		return error;
	if (!knows)
		return -EOPNOTSUPP;
	if (header.status != ATDD_OK)
		return -EPROTO;
	memcpy(session, content, ATDD_SESSION_SIZE);
	return 0;
}

/*
 * The size of a classic server's disk: what the user says, if there is as much,
 * or what the server tells by what it refuses.
 */
static int find_size(struct atdd_connection *connection, u64 *sectors)
{
	u64 wanted = connection->device->options.size_bytes >> ATDD_SECTOR_SHIFT;
	u64 low = 0, high = ATDD_SECTORS_MAX;
	bool exists;
	int error;

	if (wanted) {
		error = probe(connection, wanted - 1, &exists);
		if (error)
			return error;
		if (!exists) {
			atdd_warn(connection->device, "size= is larger than the disk");
			return -ENOSPC;
		}
		*sectors = wanted;
		return 0;
	}
	while (low < high) {
		u64 middle = low + (high - low) / 2;

		error = probe(connection, middle, &exists);
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

static size_t put_attach(struct atdd_connection *connection,
			 const u8 session[ATDD_SESSION_SIZE], u8 *to)
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
	memcpy(attach->session, session, sizeof(attach->session));
	spin_lock(&device->lock);
	attach->header.number = cpu_to_be64(next_number(connection));
	if (atdd_leads(connection) && device->generation) {
		attach->flags = ATDD_CONTINUES;
		attach->continues = cpu_to_be64(device->generation);
	} else if (atdd_leads(connection) && device->options.attach == ATDD_TAKING_OVER) {
		attach->flags = ATDD_TAKE_OVER;
	}
	spin_unlock(&device->lock);
	atdd_tag(connection, to, sizeof(*attach), to + sizeof(*attach));
	return sizeof(*attach) + ATDD_TAG_SIZE;
}

/* What the server's answer to an attach means. */
static int attach_error(struct atdd_connection *connection, u8 status,
			const struct atdd_attached *attached)
{
	struct atdd_device *device = connection->device;

	switch (status) {
	case ATDD_OK:
		return 0;
	case ATDD_HELD:
		atdd_warn(device, "the disk is held by %.*s through process %u",
			  ATDD_NAME_SIZE, attached->name, attached->process);
		return -EBUSY;
	case ATDD_FENCED:
		/* Only the first asks to continue, and so hears of others. */
		return atdd_leads(connection) ? -ESTALE : -EAGAIN;
	case ATDD_CONTENDED:
	case ATDD_ELSEWHERE:
	case ATDD_INVALID:	/* it came late, perhaps */
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
	u8 session[ATDD_SESSION_SIZE];
	const u8 *content;
	size_t size;
	int error;

	error = say_hello(connection, session);
	if (error)
		return error;
	size = put_attach(connection, session, connection->out);
	error = atdd_send_all(connection, size);
	if (error)
		return error;
	error = await_response(connection, jiffies + ATTACH_TIME, &header, &content);
	if (error)
		return error;
	if (header.type != (ATDD_ATTACH | ATDD_RESPONSE))
		return -EPROTO;
	memcpy(attached, content, sizeof(*attached));
	error = attach_error(connection, header.status, attached);
	if (!error)
		atdd_enter_session(connection, session);
	return error;
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
	if (!connection->piece_max || !connection->generation ||
	    !sectors || sectors > ATDD_SECTORS_MAX)
		return -EPROTO;
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
static int announce(struct atdd_connection *connection, bool classic)
{
	struct atdd_device *device = connection->device;
	int error = 0;

	if (READ_ONCE(device->state) != ATDD_OPENING)
		return 0;
	if (classic)
		error = find_size(connection, &device->sectors);
	if (error)
		return error;
	if (!device->sectors)
		return -ENOSPC;
	atdd_info(device, "%s by process %u, %llu sectors of 4096 bytes",
		  classic ? "served by the classic protocol, without fencing," : "attached",
		  connection->process + 1, device->sectors);
	spin_lock(&device->lock);
	if (device->state == ATDD_OPENING)
		device->state = ATDD_RUNNING;
	spin_unlock(&device->lock);
	complete(&device->opened);
	return 0;
}

/*
 * The first connection attaches, or finds that it cannot. What has begun by the
 * classic protocol stays with it: connections that did not attach would fence
 * the one that did.
 */
static int lead(struct atdd_connection *connection)
{
	struct atdd_device *device = connection->device;
	struct atdd_attached attached;
	int error = -EOPNOTSUPP;
	bool classic = false;

	if (device->options.attach != ATDD_CLASSIC && !device->classic)
		error = attach(connection, &attached);
	if (!error)
		error = take_terms(connection, &attached);
	/*
	 * What was sent before may still be on its way to this process, and may
	 * be repeated only where that comes too late.
	 */
	if (!error && connection->generation <= device->generation)
		error = -EAGAIN;
	if (error == -EOPNOTSUPP && !device->generation &&
	    (device->options.attach == ATDD_AUTO || device->options.attach == ATDD_CLASSIC)) {
		classic = true;
		error = 0;
	}
	if (!error)
		error = announce(connection, classic);
	if (error)
		return error;

	spin_lock(&device->lock);
	device->classic = classic;
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

/* Says what is to be said before the first request; 0 once it takes requests. */
int atdd_open_session(struct atdd_connection *connection)
{
	return atdd_leads(connection) ? lead(connection) : follow(connection);
}
