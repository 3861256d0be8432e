package webhook

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// SignatureHeader carries "t=1793534400,v1=5257a8...": when the request was signed, in seconds since 1970, and the HMAC-SHA256, in
// hex, of that number, a dot and the body.
const SignatureHeader = "Sluice-Signature"

// ErrSignature is what every refusal of Verify wraps.
var ErrSignature = errors.New("the signature does not hold")

// Verify returns nil where the header signs the body with the key, at most tolerance before or after now. Who rotates a key accepts the
// old one and the new one for a while.
func Verify(header string, body, key []byte, now time.Time, tolerance time.Duration) error {
	if len(key) == 0 {
		return fmt.Errorf("%w: the key is empty, so anybody could have made it", ErrSignature)
	}
	stamp, macs, err := parse(header)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrSignature, SignatureHeader, err)
	}
	want := sum(stamp, body, key)
	held := false
	for _, mac := range macs {
		held = hmac.Equal(mac, want) || held
	}
	if !held {
		return fmt.Errorf("%w: it was made with another key, or of another body", ErrSignature)
	}
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil {
		return fmt.Errorf("%w: t is not a number of seconds", ErrSignature)
	}
	if off := now.Sub(time.Unix(seconds, 0)); off > tolerance || off < -tolerance {
		return fmt.Errorf("%w: it was made %s ago, outside of %s: an old request sent again, or a clock that is off", ErrSignature, off.Round(time.Second), tolerance)
	}
	return nil
}

// sign returns the value of the header.
func sign(body, key []byte, now time.Time) string {
	stamp := strconv.FormatInt(now.Unix(), 10)
	return "t=" + stamp + ",v1=" + hex.EncodeToString(sum(stamp, body, key))
}

func sum(stamp string, body, key []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(stamp + "."))
	mac.Write(body)
	return mac.Sum(nil)
}

// parse reads the header: one t, and one v1 or more. What another release adds is passed over.
func parse(header string) (stamp string, macs [][]byte, err error) {
	for part := range strings.SplitSeq(header, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch {
		case name == "t" && stamp != "":
			return "", nil, errors.New("t is there twice")
		case name == "t":
			stamp = value
		case name == "v1":
			mac, err := hex.DecodeString(value)
			if err != nil {
				return "", nil, errors.New("v1 is not in hex")
			}
			macs = append(macs, mac)
		}
	}
	if stamp == "" || len(macs) == 0 {
		return "", nil, errors.New(`accepted is "t=SECONDS,v1=HEX"`)
	}
	return stamp, macs, nil
}

// KeyFile reads a key from a file each time it is asked: a Secret that is mounted changes under its readers. The line end that editors
// and echo leave is no part of the key.
func KeyFile(path string) func() ([]byte, error) {
	return func() ([]byte, error) {
		key, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("reading the signing key: %w", err)
		}
		key = bytes.TrimRight(key, "\r\n")
		if len(key) == 0 {
			return nil, fmt.Errorf("reading the signing key: %s is empty", path)
		}
		return key, nil
	}
}
