// Uses of the standard library that have assembly for several CPUs.
package main

import (
	"bytes"
	"compress/gzip"
	"crypto/aes"
	"crypto/cipher"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"hash/crc32"
	"math"
	"math/big"
	"math/bits"
	"strings"
)

func main() {
	text := []byte(strings.Repeat("a text to hash, ", 200))
	fmt.Printf("%x %x\n", sha256.Sum256(text), sha512.Sum512(text))
	fmt.Printf("%x %x %x\n", md5.Sum(text), sha1.Sum(text), crc32.Checksum(text, crc32.MakeTable(crc32.Castagnoli)))
	block, _ := aes.NewCipher(text[:16])
	sealer, _ := cipher.NewGCM(block)
	fmt.Printf("%x\n", sealer.Seal(nil, text[:12], text, nil)[:32])
	var packed bytes.Buffer
	writer := gzip.NewWriter(&packed)
	writer.Write(text)
	writer.Close()
	fmt.Println(packed.Len() < 200, strings.Index(string(text), "hash, a text"), bytes.Count(text, []byte("x")))
	fmt.Println(new(big.Int).Exp(big.NewInt(3), big.NewInt(999), big.NewInt(1000000007)))
	fmt.Println(math.Floor(2.7), math.FMA(2, 3, 4), bits.OnesCount64(uint64(len(text))), bits.TrailingZeros(uint(len(text))))
}
