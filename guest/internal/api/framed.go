package api

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"

	"chorus-sandbox/guest/internal/fault"
)

// writeFramed sends a line of JSON and then raw bytes. Small answers are one write, hence one frame.
func writeFramed(w http.ResponseWriter, header any, parts ...[]byte) error {
	line, err := json.Marshal(header)
	if err != nil {
		return err
	}
	size := len(line) + 1
	for _, part := range parts {
		size += len(part)
	}
	body := make([]byte, 0, size)
	body = append(append(body, line...), '\n')
	for _, part := range parts {
		body = append(body, part...)
	}
	w.Header().Set("content-type", framedType)
	w.WriteHeader(http.StatusOK)
	_, err = w.Write(body)
	return err
}

// readFramed decodes the header line and returns the reader at the first byte behind it.
func readFramed(r *http.Request, into any) (io.Reader, error) {
	in := bufio.NewReaderSize(r.Body, 64<<10)
	var line []byte
	for {
		piece, err := in.ReadSlice('\n')
		line = append(line, piece...)
		if len(line) > maxHeader {
			return nil, fault.New(fault.LimitExceeded, "the header line is longer than %d bytes", maxHeader).With("kind", "size")
		}
		if err == nil {
			break
		}
		if err == io.EOF {
			return nil, fault.New(fault.InvalidArgument, "the body has no header line")
		}
		if err != bufio.ErrBufferFull {
			return nil, err
		}
	}
	if err := json.Unmarshal(line, into); err != nil {
		return nil, fault.New(fault.InvalidArgument, "the header line is not the JSON that is expected: %v", err)
	}
	return in, nil
}
