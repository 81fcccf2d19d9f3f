// Package mail tells people what happened: the organizations whose data was touched, and the contacts inside. It
// finds the recipients, renders the mails, freezes both before the first is sent, and sends them through Resend so
// that each organization gets exactly one, whatever dies in between. It decides nothing: who is told, and when, is the
// playbook's business; the activities call it.
//
// How "exactly one" is kept:
//
//   - Freeze writes recipients and bodies down. A later call returns what the first one wrote.
//   - Each batch has an idempotency key of its own, made from the outbox's ID and the batch's number, so that Resend
//     answers a repeated request from memory for 24 hours.
//   - Before each request a line goes to the ledger, and after it another one with its outcome. A batch whose outcome
//     is there is never sent again.
//   - A batch of which a request may have been accepted, and whose key Resend may have forgotten by now, is listed for
//     a person and not sent again: a missing mail can be mended by hand, a doubled one cannot be called back.
package mail
