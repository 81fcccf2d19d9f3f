package garage

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Claims are what a bearer token says of its holder. The application believes them without a look into the database,
// so that a token works while the database is broken.
type Claims struct {
	UserID         string `json:"user_id"`
	Email          string `json:"email"`
	Name           string `json:"name,omitempty"`
	OrganizationID string `json:"organization_id"`
	Role           string `json:"role"`
	Expires        int64  `json:"exp,omitempty"` // seconds since 1970; 0: never
}

var encoding = base64.RawURLEncoding

const tokenHeader = `{"alg":"HS256","typ":"JWT"}`

// Sign makes a bearer token (a JWT signed with HMAC-SHA256).
func Sign(secret string, c Claims) string {
	payload, err := json.Marshal(c)
	if err != nil {
		panic(err) // a struct of strings and a number always encodes
	}
	head := encoding.EncodeToString([]byte(tokenHeader)) + "." + encoding.EncodeToString(payload)
	return head + "." + encoding.EncodeToString(signature(secret, head))
}

func signature(secret, head string) []byte {
	m := hmac.New(sha256.New, []byte(secret))
	m.Write([]byte(head))
	return m.Sum(nil)
}

var errToken = errors.New("Could not validate credentials") //nolint:staticcheck // the words of the framework it stands for

// verify returns what a token claims, if it is ours, for its algorithm, and in time.
func verify(secret, token string, now time.Time) (Claims, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 || parts[0] != encoding.EncodeToString([]byte(tokenHeader)) {
		return Claims{}, errToken
	}
	given, err := encoding.DecodeString(parts[2])
	if err != nil || !hmac.Equal(given, signature(secret, parts[0]+"."+parts[1])) {
		return Claims{}, errToken
	}
	payload, err := encoding.DecodeString(parts[1])
	if err != nil {
		return Claims{}, errToken
	}
	var c Claims
	if err := json.Unmarshal(payload, &c); err != nil || c.OrganizationID == "" {
		return Claims{}, errToken
	}
	if c.Expires != 0 && now.Unix() >= c.Expires {
		return Claims{}, errToken
	}
	return c, nil
}

// authorized lets a request through whose token is good and whose role is one of those named; no names mean any role.
func (a *App) authorized(next func(http.ResponseWriter, *http.Request, Claims), roles ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok {
			w.Header().Set("WWW-Authenticate", "Bearer")
			refuse(w, http.StatusUnauthorized, "Not authenticated")
			return
		}
		claims, err := verify(a.secret, token, time.Now())
		if err != nil {
			w.Header().Set("WWW-Authenticate", "Bearer")
			refuse(w, http.StatusUnauthorized, err.Error())
			return
		}
		if len(roles) > 0 && !slices.Contains(roles, claims.Role) {
			refuse(w, http.StatusForbidden, "Insufficient permissions: requires one of "+strings.Join(roles, ", "))
			return
		}
		next(w, r, claims)
	}
}
