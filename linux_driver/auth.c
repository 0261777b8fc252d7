// SPDX-License-Identifier: GPL-2.0-only
/* The tags of messages: HMAC-SHA256 with the client key. */
#include <crypto/hash.h>

#include "atdd.h"
#include "compat.h"

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

/* Takes the tag of a message on this connection. */
void atdd_tag(struct atdd_connection *connection, const u8 *message, size_t size,
	      u8 tag[ATDD_TAG_SIZE])
{
	SHASH_DESC_ON_STACK(desc, connection->device->hmac);
	int error;

	desc->tfm = connection->device->hmac;
	error = crypto_shash_init(desc);
	if (!error && connection->attached)
		error = crypto_shash_update(desc, connection->session,
					    ATDD_SESSION_SIZE);
	if (!error)
		error = crypto_shash_finup(desc, message, size, tag);
	/* A hash in memory does not fail; should it, no server takes this. */
	if (WARN_ON_ONCE(error))
		memset(tag, 0, ATDD_TAG_SIZE);
	shash_desc_zero(desc);
}

/* Whether a message is followed by its tag. */
bool atdd_tag_is_right(struct atdd_connection *connection, const u8 *message,
		       size_t size)
{
	u8 tag[ATDD_TAG_SIZE];

	atdd_tag(connection, message, size, tag);
	return !crypto_memneq(tag, message + size, ATDD_TAG_SIZE);
}
