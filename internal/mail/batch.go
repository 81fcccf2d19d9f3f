package mail

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/resend/resend-go/v2"

	"github.com/battwheels/runbook/internal/incident"
	"github.com/battwheels/runbook/internal/words"
)

// batch is one SendBatch under way: everything it learns goes to the ledger before anything else follows from it.
type batch struct {
	*Sender
	folder   incident.Folder
	outbox   Outbox
	n        int
	messages []Message
	history  history
}

func (b *batch) run(ctx context.Context) (BatchResult, error) {
	if split := b.history[[2]int{b.n + 1, whole}].split; split != nil {
		return b.oneByOne(ctx, *split)
	}
	if result, given := b.giveUpIfTooOld(whole, b.messages); given {
		return b.finish(whole, result)
	}
	a, err := b.try(ctx, whole, func(ctx context.Context) error {
		requests := make([]*resend.SendEmailRequest, len(b.messages))
		for i, m := range b.messages {
			requests[i] = request(b.outbox.From, m)
		}
		_, err := b.client.Batch.SendWithOptions(ctx, requests, &resend.BatchSendEmailOptions{
			IdempotencyKey:  b.outbox.Batches[b.n].Key,
			BatchValidation: resend.BatchValidationPermissive,
		})
		return err
	})
	var refused *RefusedError
	switch {
	case err == nil:
		result := b.assign(a)
		if reason, all := refusedAlike(result); all && aboutSender(reason) {
			return BatchResult{}, &RefusedError{Status: http.StatusOK, Name: "validation_error", Reason: blank(reason, b.key)}
		}
		return b.finish(whole, result)
	case errors.As(err, &refused) && refused.Name == "invalid_idempotent_request":
		return b.finish(whole, b.unknown(b.messages, "the mail service knows this batch's key with other words in it: "+
			"it was sent by something else"))
	case errors.As(err, &refused) && concernsMails(refused) && !aboutSender(refused.Reason):
		split := entry{Event: eventSplit, Failed: b.named(a)}
		if err := b.write(whole, split); err != nil {
			return BatchResult{}, err
		}
		return b.oneByOne(ctx, split)
	}
	return BatchResult{}, fmt.Errorf("send batch %d of %d: %w", b.n+1, len(b.outbox.Batches), err)
}

// oneByOne sends the mails of a batch that the service refuses as a whole, each under its own key, so that one bad
// address does not keep ninety-nine others in the dark.
func (b *batch) oneByOne(ctx context.Context, split entry) (BatchResult, error) {
	result := BatchResult{Failed: split.Failed}
	refusedAlready := map[string]bool{}
	for _, f := range split.Failed {
		refusedAlready[f.Email] = true
	}
	for i, m := range b.messages {
		if refusedAlready[m.Contact.Email] {
			continue
		}
		one, err := b.one(ctx, i+1, m)
		if err != nil {
			return BatchResult{}, fmt.Errorf("send mail %d of batch %d of %d: %w", i+1, b.n+1, len(b.outbox.Batches), err)
		}
		result.Sent = append(result.Sent, one.Sent...)
		result.Failed = append(result.Failed, one.Failed...)
		result.Unknown = append(result.Unknown, one.Unknown...)
	}
	return b.finish(whole, result)
}

func (b *batch) one(ctx context.Context, mail int, m Message) (BatchResult, error) {
	if done := b.history[[2]int{b.n + 1, mail}].finished; done != nil {
		return done.result(), nil
	}
	if result, given := b.giveUpIfTooOld(mail, []Message{m}); given {
		return b.finish(mail, result)
	}
	a, err := b.try(ctx, mail, func(ctx context.Context) error {
		_, err := b.client.Emails.SendWithOptions(ctx, request(b.outbox.From, m), &resend.SendEmailOptions{
			IdempotencyKey: idempotencyKey(fmt.Sprintf("%s/batch/%d/mail/%d", b.outbox.ID, b.n+1, mail)),
		})
		return err
	})
	var refused *RefusedError
	switch {
	case err == nil:
		return b.finish(mail, BatchResult{Sent: []Receipt{{m.Contact.OrganizationID, a.ID}}})
	case errors.As(err, &refused) && concernsMails(refused) && !aboutSender(refused.Reason):
		return b.finish(mail, BatchResult{Failed: []Failure{failure(m, refused.Reason)}})
	}
	return BatchResult{}, err
}

// try writes down that a request leaves, lets it leave, and writes down if it certainly came to nothing.
func (b *batch) try(ctx context.Context, mail int, call func(context.Context) error) (answer, error) {
	attempt := attemptID()
	if err := b.write(mail, entry{Event: eventTrying, Attempt: attempt}); err != nil {
		return answer{}, err
	}
	a, err := b.perform(ctx, call)
	if nothingSent(err) {
		if err := b.write(mail, entry{Event: eventNothing, Attempt: attempt}); err != nil {
			return answer{}, err
		}
	}
	return a, err
}

// nothingSent says whether an error proves that the service accepted nothing of the request.
func nothingSent(err error) bool {
	if unavailable, ok := errors.AsType[*UnavailableError](err); ok {
		return !unavailable.Left
	}
	if refused, ok := errors.AsType[*RefusedError](err); ok {
		return refused.Name != "invalid_idempotent_request"
	}
	_, limited := errors.AsType[*RateLimitedError](err)
	return limited
}

// giveUpIfTooOld lists mails as unknown when a request that may have been accepted is older than the key's memory:
// repeating it could send them twice.
func (b *batch) giveUpIfTooOld(mail int, messages []Message) (BatchResult, bool) {
	since, open := b.history[[2]int{b.n + 1, mail}].openSince()
	if !open || b.now().Sub(since) < keysRememberedFor {
		return BatchResult{}, false
	}
	return b.unknown(messages, fmt.Sprintf("a request of %s got no answer, and the mail service no longer remembers its key: "+
		"look there whether it was sent", words.When(since))), true
}

// finish writes an outcome down; only then is it one.
func (b *batch) finish(mail int, r BatchResult) (BatchResult, error) {
	r.Batch = b.n
	err := b.write(mail, entry{Event: eventFinished, Sent: r.Sent, Failed: r.Failed, Unknown: r.Unknown})
	if err != nil {
		return BatchResult{}, err
	}
	return r, nil
}

func (b *batch) write(mail int, e entry) error {
	e.At, e.Outbox, e.Batch, e.Mail = b.now().UTC(), b.outbox.ID, b.n+1, mail
	return b.folder.Append(LedgerName, e)
}

// assign tells from an answer in permissive mode what became of each mail: errors carry the mail's index, and the ids
// are those of the others, in order.
func (b *batch) assign(a answer) BatchResult {
	failed := map[int]string{}
	for _, e := range a.Errors {
		if e.Index >= 0 && e.Index < len(b.messages) {
			failed[e.Index] = e.Message
		}
	}
	if len(a.Data)+len(failed) != len(b.messages) {
		return b.unknown(b.messages, fmt.Sprintf("the mail service answered for %d of the batch's %d mails, without saying which",
			len(a.Data)+len(failed), len(b.messages)))
	}
	var r BatchResult
	next := 0
	for i, m := range b.messages {
		if reason, ok := failed[i]; ok {
			r.Failed = append(r.Failed, failure(m, reason))
			continue
		}
		r.Sent = append(r.Sent, Receipt{m.Contact.OrganizationID, a.Data[next].ID})
		next++
	}
	return r
}

// named lists the mails that a refusal of the whole batch names.
func (b *batch) named(a answer) []Failure {
	var failures []Failure
	for _, e := range a.Errors {
		if e.Index >= 0 && e.Index < len(b.messages) && !aboutSender(e.Message) {
			failures = append(failures, failure(b.messages[e.Index], e.Message))
		}
	}
	return failures
}

func (b *batch) unknown(messages []Message, reason string) BatchResult {
	var r BatchResult
	for _, m := range messages {
		r.Unknown = append(r.Unknown, failure(m, reason))
	}
	return r
}

func failure(m Message, reason string) Failure {
	return Failure{OrganizationID: m.Contact.OrganizationID, Email: m.Contact.Email, Reason: reason}
}

// concernsMails says whether a refusal is about what the request holds, rather than about who asks.
func concernsMails(e *RefusedError) bool {
	return e.Name != "invalid_idempotency_key" && (e.Status == http.StatusBadRequest ||
		e.Status == http.StatusUnprocessableEntity || e.Status == http.StatusRequestEntityTooLarge)
}

// aboutSender says whether a reason is about mail.from: that is ours to mend, not a bad address to be listed.
func aboutSender(reason string) bool { return strings.Contains(reason, "`from`") }

// refusedAlike returns the one reason for which every mail was refused.
func refusedAlike(r BatchResult) (reason string, all bool) {
	if len(r.Failed) == 0 || len(r.Sent)+len(r.Unknown) > 0 {
		return "", false
	}
	for _, f := range r.Failed {
		if f.Reason != r.Failed[0].Reason {
			return "", false
		}
	}
	return r.Failed[0].Reason, true
}
