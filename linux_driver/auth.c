// SPDX-License-Identifier: GPL-2.0-only
/*
 * The tags of messages: HMAC-SHA256 with the client key, or after an attach
 * Poly1305 with keys of the session, which is several times as fast.
 */
#include <crypto/chacha20poly1305.h>
#include <crypto/hash.h>

#include "atdd.h"
#include "compat.h"

#define MAC_SIZE	CHACHA20POLY1305_AUTHTAG_SIZE

static_assert(ATDD_SESSION_KEY_SIZE == CHACHA20POLY1305_KEY_SIZE);
static_assert(ATDD_SESSION_KEY_SIZE == ATDD_TAG_SIZE);
static_assert(offsetof(struct atdd_request_header, number) ==
	      offsetof(struct atdd_response_header, number));

int atdd_auth_init(struct atdd_device *device)
{
	struct crypto_shash *hmac = crypto_alloc_shash("hmac(sha256)", 0, 0);
	int error;

	if (IS_ERR(hmac)) {
		pr_err("%s: this kernel has no hmac(sha256)\n", device->name);
		return PTR_ERR(hmac);
	}
	error = crypto_shash_setkey(hmac, device->options.key, ATDD_KEY_SIZE);
	if (error) {
		crypto_free_shash(hmac);
		return error;
	}
	memzero_explicit(device->options.key, ATDD_KEY_SIZE);
	device->hmac = hmac;
	return 0;
}

void atdd_auth_exit(struct atdd_device *device)
{
	crypto_free_shash(device->hmac);
}

/* HMAC-SHA256 with the client key over two pieces. */
static void hmac(struct atdd_device *device, const void *first, size_t first_size,
		 const void *second, size_t second_size, u8 tag[ATDD_TAG_SIZE])
{
	SHASH_DESC_ON_STACK(desc, device->hmac);
	int error;

	desc->tfm = device->hmac;
	error = crypto_shash_init(desc);
	if (!error)
		error = crypto_shash_update(desc, first, first_size);
	if (!error)
		error = crypto_shash_finup(desc, second, second_size, tag);
	/* A hash in memory does not fail; should it, no server takes this. */
	if (WARN_ON_ONCE(error))
		memset(tag, 0, ATDD_TAG_SIZE);
	shash_desc_zero(desc);
}

/* From now on, messages of this connection are tagged as its session says. */
void atdd_enter_session(struct atdd_connection *connection,
			const u8 session[ATDD_SESSION_SIZE])
{
	struct atdd_device *device = connection->device;

	hmac(device, ATDD_LABEL_OF_REQUESTS, strlen(ATDD_LABEL_OF_REQUESTS),
	     session, ATDD_SESSION_SIZE, connection->request_key);
	hmac(device, ATDD_LABEL_OF_RESPONSES, strlen(ATDD_LABEL_OF_RESPONSES),
	     session, ATDD_SESSION_SIZE, connection->response_key);
	connection->attached = true;
}

static void session_tag(const u8 key[ATDD_SESSION_KEY_SIZE], const u8 *message,
			size_t size, u8 tag[ATDD_TAG_SIZE])
{
	const struct atdd_response_header *header;
	u64 number;

	/* In requests it has the same place. */
	header = (const struct atdd_response_header *)message;
	number = be64_to_cpu(header->number);
	chacha20poly1305_encrypt(tag, NULL, 0, message, size, number, key);
	memset(tag + MAC_SIZE, 0, ATDD_TAG_SIZE - MAC_SIZE);
}

/* Takes the tag of a request. */
void atdd_tag(struct atdd_connection *connection, const u8 *message, size_t size,
	      u8 tag[ATDD_TAG_SIZE])
{
	if (connection->attached)
		session_tag(connection->request_key, message, size, tag);
	else
		hmac(connection->device, NULL, 0, message, size, tag);
}

/* Whether a response is followed by its tag. */
bool atdd_tag_is_right(struct atdd_connection *connection, const u8 *message,
		       size_t size)
{
	u8 tag[ATDD_TAG_SIZE];

	if (connection->attached)
		session_tag(connection->response_key, message, size, tag);
	else
		hmac(connection->device, NULL, 0, message, size, tag);
	return !crypto_memneq(tag, message + size, ATDD_TAG_SIZE);
}
