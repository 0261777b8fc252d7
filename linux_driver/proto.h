/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The client protocol of Atomic Disk Drive as bytes, and nothing else.
 *
 * Every message ends with a tag: HMAC-SHA256 with the client key over all of
 * it before the tag. After an attach, it is 16 bytes of Poly1305 and 16 zeroes:
 * the tag of ChaCha20-Poly1305 (RFC 8439) for no text, with the message as
 * additional data and its number as the nonce. The key of either direction is
 * HMAC-SHA256 with the client key over a label and the session, which the server
 * has drawn for a HELLO, and which the attach names. Request numbers rise.
 */
#ifndef ATDD_PROTO_H
#define ATDD_PROTO_H

#include <linux/build_bug.h>
#include <linux/types.h>

#define ATDD_MAGIC		0x61746464	/* "atdd" */
#define ATDD_SECTOR_SHIFT	12
#define ATDD_SECTOR_SIZE	4096	/* bytes */
#define ATDD_KEY_SIZE		32
#define ATDD_TAG_SIZE		32
#define ATDD_OWNER_SIZE		16
#define ATDD_SESSION_SIZE	16
#define ATDD_SESSION_KEY_SIZE	32
#define ATDD_NAME_SIZE		64

#define ATDD_LABEL_OF_REQUESTS	"tags of requests v1"
#define ATDD_LABEL_OF_RESPONSES	"tags of responses v1"

/* Types of requests. A response has the type of its request + 0x40. */
enum atdd_type {
	ATDD_READ		= 0x01,
	ATDD_WRITE		= 0x02,
	/* What a server of the classic protocol does not know. */
	ATDD_ATTACH		= 0x80,
	ATDD_READ_RANGE		= 0x81,
	ATDD_WRITE_RANGE	= 0x82,
	ATDD_DISCARD		= 0x83,
	ATDD_HEARTBEAT		= 0x84,
	ATDD_HELLO		= 0x86,	/* answered with a session */
	ATDD_RESPONSE		= 0x40,
};

enum atdd_status {
	ATDD_OK			= 0x00,
	ATDD_AUTH_FAILURE	= 0x01,
	ATDD_INVALID_SECTOR	= 0x02,
	/* Only where a client has attached, or asked for it. */
	ATDD_HELD		= 0x03,	/* by another client: see its name */
	ATDD_FENCED		= 0x04,	/* for good */
	ATDD_ELSEWHERE		= 0x05,	/* attach at another process */
	ATDD_CONTENDED		= 0x06,	/* try again after a pause */
	ATDD_SHUTTING_DOWN	= 0x07,	/* try another process */
	ATDD_UNREADABLE		= 0x08,	/* too many copies are damaged */
	ATDD_READ_ONLY		= 0x09,
	ATDD_TIMED_OUT		= 0x0a,	/* the operator's deadline passed */
	ATDD_NOT_ATTACHED	= 0x0b,
	ATDD_INVALID		= 0x0c,
};

enum atdd_attach_kind {
	ATDD_ALONE		= 0,
	ATDD_JOINABLE		= 1,
};

enum atdd_attach_flags {
	ATDD_TAKE_OVER		= 1 << 0,
	ATDD_CONTINUES		= 1 << 1,
};

/* A classic request is this, a WRITE's 4096 bytes, and the tag. */
struct atdd_request_header {
	__be32	magic;
	u8	padding[3];
	u8	type;
	__be64	number;		/* chosen by the client, echoed */
	__be64	sector;
} __packed;
static_assert(sizeof(struct atdd_request_header) == 24);

/* A request about a range: the content of a WRITE RANGE follows. */
struct atdd_range {
	struct atdd_request_header header;
	__be32	count;
	__be32	zero;
} __packed;
static_assert(sizeof(struct atdd_range) == 32);

struct atdd_attach {
	struct atdd_request_header header;
	u8	owner[ATDD_OWNER_SIZE];
	u8	kind;
	u8	flags;
	u8	zero[6];
	__be64	continues;	/* the generation of this owner before */
	u8	join_key[32];
	u8	session[ATDD_SESSION_SIZE];
} __packed;
static_assert(sizeof(struct atdd_attach) == 104);

/* A response is this, its content, and the tag. */
struct atdd_response_header {
	__be32	magic;
	u8	padding[2];
	u8	status;
	u8	type;
	__be64	number;
} __packed;
static_assert(sizeof(struct atdd_response_header) == 16);

/* The content of every response to an ATTACH but AUTH_FAILURE. */
struct atdd_attached {
	__be64	generation;
	__be64	sectors;
	__be32	sectors_max;	/* of one READ RANGE or WRITE RANGE */
	__be32	discard_max;	/* sectors of one DISCARD */
	__be32	heartbeat_ms;	/* the longest silence of a client */
	u8	process;
	u8	zero[3];
	u8	name[ATDD_NAME_SIZE];	/* of the client that holds the disk */
} __packed;
static_assert(sizeof(struct atdd_attached) == 96);

#endif
