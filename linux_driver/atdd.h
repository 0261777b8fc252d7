/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Atomic Disk Drive: a block device kept by several processes over TCP.
 *
 * A request of the block layer waits in its device's list until a connection
 * takes pieces of it. A piece lies in a slot of that connection until it is
 * answered; when the connection is lost it goes back to the list. All of this
 * is under the device's lock, and nothing is allocated on the way.
 *
 *   queue_rq --> pending --> send work --> slots --> receive thread --> end
 *                   ^                        |
 *                   +---- connection lost ---+
 */
#ifndef ATDD_H
#define ATDD_H

#include <linux/bitmap.h>
#include <linux/bits.h>
#include <linux/blk-mq.h>
#include <linux/completion.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/rbtree.h>
#include <linux/socket.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "proto.h"

#define ATDD_PROCESSES_MAX	32
#define ATDD_CONNECTIONS_MAX	32
#define ATDD_QUEUE_DEPTH_MAX	1024
#define ATDD_TIMEOUT_MAX	86400	/* seconds */
/* No disk has more sectors. */
#define ATDD_SECTORS_MAX	BIT_ULL(48)

/* The longest request of the block layer, in sectors of 4096 bytes. */
#define ATDD_REQUEST_SECTORS	256
/* The most sectors of a piece, so that its message fits into a buffer. */
#define ATDD_PIECE_SECTORS	64
#define ATDD_MESSAGE_MAX	(ATDD_PIECE_SECTORS * ATDD_SECTOR_SIZE + 128)
#define ATDD_BUFFER_SIZE	(2 * ATDD_MESSAGE_MAX)
/* Whoever adds a device waits at most so long for a server. */
#define ATDD_OPEN_TIME		(30 * HZ)
/* With so many sectors under way, one connection's threads have enough to do. */
#define ATDD_BUSY_LOAD		256
/* Pieces under way on a connection. */
#define ATDD_SLOTS		255
/*
 * With so many sectors under way, a connection takes no more: that is half of what a
 * server takes at a time (32 MiB), so that it always reads on, and answers heartbeats.
 */
#define ATDD_LOAD_MAX		4096

enum atdd_attach_mode {
	ATDD_AUTO,		/* exclusive where the server knows it, else classic */
	ATDD_EXCLUSIVE,		/* of use only with servers that know it */
	ATDD_TAKING_OVER,	/* so, and fence whoever holds the disk */
	ATDD_CLASSIC,		/* beside all other classic clients */
};

/* What the user chose for a device. */
struct atdd_options {
	struct sockaddr_storage processes[ATDD_PROCESSES_MAX];
	unsigned int process_count;
	u8 key[ATDD_KEY_SIZE];
	bool has_key;
	u64 size_bytes;		/* 0: what the server says */
	unsigned int connections;
	unsigned int queue_depth;
	unsigned int timeout_s;	/* 0: wait for a majority */
	enum atdd_attach_mode attach;
};

#define ATDD_DEFAULT_OPTIONS { .connections = 4, .queue_depth = 128 }

/* The driver's part of a struct request. */
struct atdd_request {
	u64 first;		/* sector of the disk */
	u32 count;		/* sectors */
	u32 units;		/* sectors, or 1 where it is not cut up */
	u32 left;		/* units that are not answered */
	u32 pins;		/* threads that look at its pages now */
	u64 order;		/* of arrival */
	blk_status_t status;
	bool over;		/* it ends as soon as nobody pins it */
	bool blocked;		/* an earlier write overlaps it */
	struct list_head queued;	/* until it is over */
	struct list_head pending;	/* while pieces are to be sent */
	struct rb_node node;		/* among the writes under way */
	u64 subtree_last;
	DECLARE_BITMAP(todo, ATDD_REQUEST_SECTORS);
};

/* A piece of a request, as it is sent. */
struct atdd_piece {
	struct request *rq;
	u64 number;
	u64 first;		/* sector of the disk */
	u32 count;		/* sectors */
	u16 unit;		/* the first of the request's units */
	u16 units;
	u8 type;
};

/* A piece that waits for its answer. */
struct atdd_slot {
	struct request *rq;	/* NULL: nobody waits for it any more */
	u64 number;		/* 0: the slot is free */
	unsigned long sent;	/* jiffies */
	u16 unit;
	u16 units;
	u8 type;
};

struct atdd_device;

struct atdd_connection {
	struct atdd_device *device;
	unsigned int index;
	struct task_struct *thread;
	struct work_struct send_work;

	struct mutex mutex;	/* the socket's end and its shutdown */
	struct socket *socket;

	/* Under the device's lock. */
	bool ready;		/* takes pieces */
	bool heartbeat;		/* one is to be sent */
	u64 probe;		/* the oldest unanswered heartbeat's number, or 0 */
	u32 probe_end;		/* where its bytes end in all that was sent */
	unsigned int in_flight;	/* pieces */
	unsigned int load;	/* sectors of those */
	unsigned long last_answered;	/* jiffies: when the latest piece answered was sent */
	DECLARE_BITMAP(used, ATDD_SLOTS);
	struct atdd_slot slots[ATDD_SLOTS];

	/* Of the send work, and of the thread while that is not ready. */
	u64 last_number;
	u8 *out;
	unsigned long last_sent;

	/* Of the thread. */
	unsigned int process;
	u8 *in;
	size_t in_start;
	size_t in_end;
	unsigned long last_received;	/* jiffies */
	unsigned long last_check;	/* jiffies: whether something is overdue */
	unsigned long last_life;	/* jiffies: received, or seen to take bytes */
	u32 last_taken;

	/* Constant while it is ready. */
	bool attached;
	u64 generation;
	u8 request_key[ATDD_SESSION_KEY_SIZE];
	u8 response_key[ATDD_SESSION_KEY_SIZE];
	unsigned int piece_max;	/* sectors */
};

enum atdd_state {
	ATDD_OPENING,		/* looks for a server for the first time */
	ATDD_RUNNING,
	ATDD_DEAD,		/* fenced, or the first opening failed */
	ATDD_REMOVED,
};

struct atdd_device {
	char name[DISK_NAME_LEN];
	struct atdd_options options;
	struct crypto_shash *hmac;
	struct workqueue_struct *send_queue;

	struct blk_mq_tag_set tags;
	struct gendisk *disk;
	bool added;		/* its partitions were looked for */
	u64 sectors;
	u32 discard_max;	/* sectors of a discard; 0: none */

	spinlock_t lock;	/* all that follows, and every connection's part */
	enum atdd_state state;
	struct list_head queued;	/* all requests */
	struct list_head pending;	/* those with pieces to send */
	struct list_head ended;		/* completed at atdd_unlock() */
	struct rb_root_cached writes;	/* the changes that are not ended */
	u64 order;
	unsigned int blocked;

	/* The attachment; the first connection leads, the others join it. */
	bool extended;			/* a server has answered a hello */
	bool classic;
	bool attached;
	unsigned int coordinator;	/* index of the process */
	u64 generation;			/* 0: none yet */
	u8 owner[ATDD_OWNER_SIZE];
	u8 join_key[32];

	wait_queue_head_t changed;
	struct completion opened;
	unsigned long opening_since;	/* jiffies */
	int open_error;

	unsigned int connection_count;
	struct atdd_connection *connections;
};

#define atdd_info(device, format, ...) \
	pr_info("%s: " format "\n", (device)->name, ##__VA_ARGS__)
#define atdd_warn(device, format, ...) \
	pr_warn_ratelimited("%s: " format "\n", (device)->name, ##__VA_ARGS__)

static inline bool atdd_has_room(const struct atdd_connection *connection)
{
	return connection->in_flight < ATDD_SLOTS && connection->load < ATDD_LOAD_MAX;
}

static inline bool atdd_is_change(struct request *rq)
{
	return req_op(rq) != REQ_OP_READ;
}

static inline bool atdd_has_data(struct request *rq)
{
	return req_op(rq) == REQ_OP_READ || req_op(rq) == REQ_OP_WRITE;
}

/* main.c */
struct atdd_device *atdd_add(const char *name, const struct atdd_options *options);
void atdd_remove(struct atdd_device *device);

/* options.c */
extern const char * const atdd_attach_names[];
int atdd_parse_processes(struct atdd_options *options, const char *text);
int atdd_parse_key(struct atdd_options *options, const char *text);
int atdd_read_key_file(struct atdd_options *options, const char *path);
int atdd_read_keyring(struct atdd_options *options, const char *description);
int atdd_parse_size(struct atdd_options *options, const char *text);
int atdd_parse_attach(struct atdd_options *options, const char *text);
int atdd_parse_connections(struct atdd_options *options, const char *text);
int atdd_parse_queue_depth(struct atdd_options *options, const char *text);
int atdd_parse_timeout(struct atdd_options *options, const char *text);
int atdd_check_options(const char *name, const struct atdd_options *options);

/* configfs.c */
int atdd_configfs_register(void);
void atdd_configfs_open(void);
void atdd_configfs_unregister(void);

/* blk.c */
int atdd_blk_add(struct atdd_device *device);
void atdd_blk_remove(struct atdd_device *device);

/* request.c */
void atdd_end_attachment(struct atdd_device *device);
bool atdd_enqueue(struct atdd_device *device, struct atdd_request *request);
void atdd_give_up(struct atdd_device *device, struct atdd_request *request);
void atdd_finish(struct atdd_device *device, struct atdd_request *request,
		 blk_status_t status);
void atdd_unpin(struct atdd_device *device, struct atdd_request *request);
void atdd_unlock(struct atdd_device *device);
void atdd_kick(struct atdd_device *device);
void atdd_fail_all(struct atdd_device *device, enum atdd_state state);

/* piece.c */
bool atdd_take_piece(struct atdd_connection *connection, size_t room,
		     struct atdd_piece *piece);
size_t atdd_put_piece(struct atdd_connection *connection,
		      const struct atdd_piece *piece, u8 *to);
int atdd_content_size(struct atdd_connection *connection,
		      const struct atdd_response_header *header, size_t *size);
int atdd_take_answer(struct atdd_connection *connection,
		     const struct atdd_response_header *header, const u8 *content);
void atdd_requeue(struct atdd_connection *connection);

/* conn.c */
int atdd_connections_start(struct atdd_device *device);
void atdd_connections_stop(struct atdd_device *device);
bool atdd_must_stop(struct atdd_connection *connection);
bool atdd_leads(struct atdd_connection *connection);

/* open.c */
size_t atdd_put_bare(struct atdd_connection *connection, u8 type, u64 sector, u8 *to);
int atdd_open_session(struct atdd_connection *connection);

/* stream.c */
const struct sockaddr_storage *atdd_address_of(struct atdd_connection *connection);
int atdd_open_socket(struct atdd_connection *connection);
void atdd_close_socket(struct atdd_connection *connection);
void atdd_shut_down(struct atdd_connection *connection);
int atdd_send_all(struct atdd_connection *connection, size_t size);
u32 atdd_bytes_sent(struct atdd_connection *connection);
u32 atdd_bytes_taken(struct atdd_connection *connection);
int atdd_receive(struct atdd_connection *connection, size_t missing);
int atdd_await(struct atdd_connection *connection, size_t size, unsigned long deadline);
size_t atdd_received(struct atdd_connection *connection);
u8 *atdd_message_of(struct atdd_connection *connection);

/* auth.c */
int atdd_auth_init(struct atdd_device *device);
void atdd_auth_exit(struct atdd_device *device);
void atdd_enter_session(struct atdd_connection *connection,
			const u8 session[ATDD_SESSION_SIZE]);
void atdd_tag(struct atdd_connection *connection, const u8 *message, size_t size,
	      u8 tag[ATDD_TAG_SIZE]);
bool atdd_tag_is_right(struct atdd_connection *connection, const u8 *message,
		       size_t size);

#endif
