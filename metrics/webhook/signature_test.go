package webhook

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var signedAt = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func TestVerify(t *testing.T) {
	key, text := []byte("0123456789abcdef0123456789abcdef"), []byte(`{"data":{}}`)
	good := sign(text, key, signedAt)
	mac := strings.TrimPrefix(good, "t=1793534400,v1=")
	tests := map[string]struct {
		header, body, key string
		after             time.Duration
		want              string // part of the error; empty where it holds
	}{
		"AsSigned":            {good, string(text), string(key), 0, ""},
		"AtTheTolerance":      {good, string(text), string(key), 5 * time.Minute, ""},
		"ClockBehind":         {good, string(text), string(key), -5 * time.Minute, ""},
		"SpacesAndMore":       {"v2=zz, t=1793534400 ,v1=" + mac + ", x", string(text), string(key), 0, ""},
		"OneOfTwoKeys":        {"t=1793534400,v1=00,v1=" + mac, string(text), string(key), 0, ""},
		"Late":                {good, string(text), string(key), 5*time.Minute + time.Second, "outside of 5m0s"},
		"Early":               {good, string(text), string(key), -5*time.Minute - time.Second, "outside of 5m0s"},
		"OtherBody":           {good, string(text) + " ", string(key), 0, "another key, or of another body"},
		"OtherKey":            {good, string(text), "other", 0, "another key, or of another body"},
		"OtherTime":           {"t=1793534401,v1=" + mac, string(text), string(key), 0, "another key, or of another body"},
		"EmptyKey":            {sign(text, nil, signedAt), string(text), "", 0, "the key is empty"},
		"Nothing":             {"", string(text), string(key), 0, `accepted is "t=SECONDS,v1=HEX"`},
		"NoTime":              {"v1=" + mac, string(text), string(key), 0, "accepted is"},
		"NoMAC":               {"t=1793534400", string(text), string(key), 0, "accepted is"},
		"TwoTimes":            {good + ",t=1", string(text), string(key), 0, "twice"},
		"NotHex":              {"t=1793534400,v1=xyz", string(text), string(key), 0, "hex"},
		"ShortMAC":            {"t=1793534400,v1=" + mac[:62], string(text), string(key), 0, "another key"},
		"TimeIsNoNumber":      {"t=soon,v1=" + mac, string(text), string(key), 0, "another key"},
		"SignedTimeIsNoClock": {signedWith("soon", string(text), key), string(text), string(key), 0, "not a number of seconds"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			err := Verify(tc.header, []byte(tc.body), []byte(tc.key), signedAt.Add(tc.after), 5*time.Minute)
			switch {
			case tc.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tc.want != "" && (!errors.Is(err, ErrSignature) || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("error %v; want ErrSignature with %q", err, tc.want)
			}
		})
	}
}

func signedWith(stamp, text string, key []byte) string {
	const digits = "0123456789abcdef"
	var hexed strings.Builder
	for _, b := range sum(stamp, []byte(text), key) {
		hexed.WriteByte(digits[b>>4])
		hexed.WriteByte(digits[b&15])
	}
	return "t=" + stamp + ",v1=" + hexed.String()
}

// The recipe of docs/gates.md, with openssl, gave this value.
func TestTheSignatureIsWhatTheDocumentationSays(t *testing.T) {
	want := "t=1793534400,v1=54eda028d433d7529299a27dc0f86716f180ba5b005faec3e3bdabaa570ae9b9"
	if got := sign([]byte(`{"data":{}}`), []byte("secret"), signedAt); got != want {
		t.Errorf("signature %s; want %s", got, want)
	}
}

func TestASignatureHoldsForItsOwnBodyAlone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bytes := rapid.SliceOfN(rapid.Byte(), 1, 64)
		key, text, other := bytes.Draw(t, "key"), bytes.Draw(t, "text"), bytes.Draw(t, "other")
		header := sign(text, key, signedAt)
		if err := Verify(header, text, key, signedAt, time.Second); err != nil {
			t.Fatalf("its own body: %v", err)
		}
		if err := Verify(header, other, key, signedAt, time.Second); (err == nil) != (string(other) == string(text)) {
			t.Fatalf("another body: %v", err)
		}
	})
}

// FuzzVerify proves that no header panics, and that none that was not made with the key holds.
func FuzzVerify(f *testing.F) {
	for _, s := range []string{"", "t=1,v1=00", "t=,v1=", "v1=00", "t=1793534400", "t=1,t=2", ",,,", "t=1793534400,v1=" + strings.Repeat("00", 32)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		if err := Verify(header, []byte("text"), []byte("a key that no fuzzer guesses"), signedAt, time.Hour); err == nil {
			t.Errorf("%q holds", header)
		}
	})
}

func TestKeyFileIsReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	read := KeyFile(path)
	if _, err := read(); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("no file: error %v; want one that names it", err)
	}
	for _, tc := range []struct{ text, want string }{{"first", "first"}, {"second\r\n", "second"}, {"a b \n", "a b "}} {
		if err := os.WriteFile(path, []byte(tc.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := read(); err != nil || string(got) != tc.want {
			t.Errorf("%q: %q, %v; want %q", tc.text, got, err, tc.want)
		}
	}
	if err := os.WriteFile(path, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if key, err := read(); err == nil {
		t.Errorf("an empty file gives the key %q; anybody could sign with that", key)
	}
}
