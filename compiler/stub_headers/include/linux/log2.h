/* Included by bcc, not needed. */
