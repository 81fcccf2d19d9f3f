package mail

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAPersonsWordsBecomeParagraphs(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		want       []string
	}{
		{"one line", "All is back.", []string{"All is back."}},
		{"lines that an editor broke are one paragraph", "Please look\nat your\r\n entries.\n", []string{"Please look at your entries."}},
		{"an empty line parts them, however many", "\n\nOne.\n \n\n\nTwo.", []string{"One.", "Two."}},
		{"entries of a list stay lines", "We miss:\n- job cards\n  of Monday\n- payments\n1. first\n12) last", []string{"We miss:\n- job cards of Monday\n- payments\n1. first\n12) last"}},
		{"a number that begins a line is none", "It was at\n02:00 and\n-5 degrees", []string{"It was at 02:00 and -5 degrees"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f, err := NewFollowUp(Correction, "", tc.text)
			require.NoError(t, err)
			require.Equal(t, tc.want, f.Paragraphs)
			require.Equal(t, "A correction to our earlier mail", f.Headline)
		})
	}
}

func TestWordsThatCannotBeMailedAreRefused(t *testing.T) {
	for _, tc := range []struct {
		name, kind, headline, text, want string
	}{
		{"no kind", "", "", "x", "one of correction, all-clear, update"},
		{"another kind", "apology", "", "x", `no follow-up of kind "apology"`},
		{"no text", "update", "", " \n\t", "has no text"},
		{"a long one", "update", "", strings.Repeat("x", 10_001), "10001 bytes long; at most 10000"},
		{"a long headline", "update", strings.Repeat("ü", 121), "x", "longer than 120 characters"},
		{"a control character", "update", "", "a\x1b[31mb", "cannot be shown"},
		{"no UTF-8", "update", "a\xffb", "x", "cannot be shown"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := NewFollowUp(FollowUpKind(tc.kind), tc.headline, tc.text)
			require.ErrorContains(t, err, tc.want)
		})
	}
}

func TestAFollowUpIsEscapedAndInTheFirstMailsThread(t *testing.T) {
	templates, err := NewTemplates(nil)
	require.NoError(t, err)
	f, err := NewFollowUp(Correction, "A <script>alert(1)</script>\nheadline", "See <img src=x onerror=alert(1)> & more:\n- {{.Brand}}")
	require.NoError(t, err)
	first, err := templates.Notice(notice(), sampleGarage)
	require.NoError(t, err)
	m, err := templates.FollowUp(notice(), f, sampleGarage)
	require.NoError(t, err)
	require.Equal(t, "Battwheels OS: A <script>alert(1)</script> headline", m.Subject)
	require.Equal(t, first.Headers["References"], m.Headers["References"])
	require.Equal(t, first.Headers["References"], m.Headers["In-Reply-To"])
	require.NotContains(t, m.HTML, "<script>")
	require.NotContains(t, m.HTML, "<img")
	require.Contains(t, m.HTML, "See &lt;img src=x onerror=alert(1)&gt; &amp; more:<br>- {{.Brand}}</p>")
	require.Contains(t, m.Text, "See <img src=x onerror=alert(1)> & more:\n- {{.Brand}}\n")
	require.Contains(t, m.HTML, ">Correction<")
}

// TestAFollowUpGoesToThoseWhoGotTheFirst, except where the service refused the address then.
func TestAFollowUpGoesToThoseWhoGotTheFirst(t *testing.T) {
	s, f := newService(t), folder(t)
	render := func(c Contact) (Message, error) { return Message{Contact: c, Subject: "again", Text: "again"}, nil }
	_, err := Follow(f, render)
	require.ErrorIs(t, err, ErrNobodyTold)

	d := draft(150, 7, 120)
	d.Without = []Contact{{OrganizationID: "nobody", Why: "it has no address"}}
	first := freeze(t, f, d)
	sender := s.sender(t)
	for n := range first.Batches {
		_, err := sender.SendBatch(t.Context(), f, first, n)
		require.NoError(t, err)
	}
	next, err := Follow(f, render)
	require.NoError(t, err)
	require.Len(t, next.Messages, 148)
	require.Equal(t, first.From, next.From)
	require.Len(t, next.Without, 3)
	require.Contains(t, next.Without[1].Why, "its address was refused: ")

	next.Name, next.ID = "correction-1", d.ID+"/correction-1"
	second := freeze(t, f, next)
	require.NotEqual(t, first.Batches[0].Key, second.Batches[0].Key)
	result, err := sender.SendBatch(t.Context(), f, second, 0)
	require.NoError(t, err)
	require.False(t, result.Already, "the first mail's ledger does not stand for it")
	require.Len(t, result.Sent, 100)
	out, err := first.Outcome(f)
	require.NoError(t, err)
	require.Equal(t, 148, out.Sent, "nor its own for the first's")
}
